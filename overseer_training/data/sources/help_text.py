"""Reads what `--help` prints: which operands a program takes, and its table of options.

Takes a text in one of the usual forms (GNU argp and getopt, busybox, Go's flag, argparse, click, clap); gives `Help`. What does not look like
one of them is left alone: half a table is better than a guessed line.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Literal

Operand = Literal["file", "folder", "none", "other"]
USAGE = re.compile(
    r"^[ \t]*(?i:usage)(?: is)?:?[ \t]*\n?[ \t]*(?P<first>\S.*)(?P<more>(?:\n[ \t]+(?!or\b)[a-z\[<{(|.].*)*)", re.M
)
FILE_WORD = re.compile(r"(?!out)[\w-]*files?(?:names?)?|(?:path|dir)(?:names?|s)?|director(?:y|ies)|input", re.I)
FOLDER_WORD = re.compile(r"dir(?:names?|s)?|director(?:y|ies)", re.I)
OPTION_WORD = re.compile(r"(?:options?|opts|flags|options?_?list|switches)", re.I)
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
FLAG = re.compile(r"--?[A-Za-z0-9][\w-]*")
VALUE = re.compile(
    r"(?P<optional>\[=?<?(?P<may>[\w-]+)>?\])|=(?:\[[-+]\])?\[?<?(?P<equals>[\w-]+)>?\]?|[ =](?:<(?P<angle>[^>]+)>|\{(?P<braces>[^}]+)\}|"
    r"\[(?P<listed>[\w-]+(?:\|[\w-]+)+)\]|(?P<word>[A-Za-z][\w-]*))(?:\.\.\.)?"
)
SEPARATOR = re.compile(r", *| *\| *|/(?=-)| (?=-)")
GAP = re.compile(r" {2,}|\t\s*")
POSSIBLE_VALUES = re.compile(r"\[possible values: ([^\]]+)\]")


@dataclasses.dataclass(frozen=True)
class Option:
    """A line of the table.

    Attributes:
        flags: its spellings, as they stand there.
        value: what the table calls its value; empty where it takes none, or may do without.
        choices: the values that are listed; empty where any may stand.
        text: what it does, in one line.
    """

    flags: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    text: str


@dataclasses.dataclass(frozen=True)
class Help:
    """What a help text says.

    Attributes:
        operand: `file` or `folder` where that is all that it takes, `none` where it needs nothing, `other` where it needs more, or
            where no synopsis was understood.
    """

    operand: Operand
    options: tuple[Option, ...]


def read_help(text: str, name: str) -> Help:
    """The help of the program `name`."""
    return Help(_read_operand(text, name), tuple(_read_options(text.expandtabs(8).split("\n"))))


def _read_operand(text: str, name: str) -> Operand:
    match = USAGE.search(text)
    if match is None:
        return "other"
    first, *rest = match["first"].split()
    if pathlib.PurePath(first).name != name:
        return "other"
    lines = [" ".join(rest), *match["more"].split("\n")]
    again = next((number for number, line in enumerate(lines) if number and line.split()[:1] == [name]), len(lines))
    synopsis = re.sub(r"\.\.\.|…", " ", " ".join(lines[:again]))
    files: set[str] = set()
    while (group := BRACKETS.search(synopsis)) is not None:  # what may be left out
        alternatives = [_words(part) for part in group[1].split("|")]
        first = "".join(alternatives[0][:1])
        is_option = not first or first.startswith(("-", "+"))
        found = {word for words in alternatives for word in words if FILE_WORD.fullmatch(word)}
        if found and not is_option:
            if len(alternatives) > 1 and any(len(words) > 1 for words in alternatives):
                return "other"
            files |= found
        synopsis = f"{synopsis[: group.start()]} {synopsis[group.end() :]}"
    needed = set(_words(synopsis))
    if len(needed) > 1 or not all(FILE_WORD.fullmatch(word) for word in needed):
        return "other"
    files |= needed
    if not files:
        return "none"
    return "folder" if all(FOLDER_WORD.fullmatch(word) for word in files) else "file"


def _words(text: str) -> list[str]:
    words = (
        word.strip("<>{},").removesuffix("(s)")
        for word in re.sub(r"<([^<>]*)>", lambda match: match[1].replace(" ", "_"), text).split()
    )
    return [word for word in words if word not in ("", "--") and not OPTION_WORD.fullmatch(word)]


def _read_options(lines: list[str]) -> Iterator[Option]:
    for number, line in enumerate(lines):
        indent = _indent(line)
        parts = GAP.split(line.strip(), maxsplit=1)
        head = _read_head(_first_part(line))
        if head is None:
            continue
        flags, value, choices = head
        said = parts[1:]
        column = (
            line.rindex(said[0]) if said else indent + 2
        )  # what goes on stands below what it goes on from, or deeper
        for following in lines[number + 1 :]:
            if not following.strip() or _indent(following) < column or _read_head(_first_part(following)) is not None:
                break
            said.append(following.strip())
            column = max(column, _indent(following)) if len(said) == 1 else column
        text = " ".join(" ".join(said).split()).lstrip("-:= ")
        listed = POSSIBLE_VALUES.search(text)
        if listed is not None:
            choices = tuple(choice.strip() for choice in listed[1].split(","))
        if text:
            yield Option(flags, value, choices, text)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _first_part(line: str) -> str:
    return GAP.split(line.strip(), maxsplit=1)[0]


def _read_head(text: str) -> tuple[tuple[str, ...], str, tuple[str, ...]] | None:
    """(flags, name of the value, listed choices) of `-n, --lines=N`; None where it is nothing of the kind."""
    flags: list[str] = []
    value, place = "", 0
    choices: tuple[str, ...] = ()
    while (flag := FLAG.match(text, place)) is not None:
        flags.append(flag[0])
        place = flag.end()
        found = VALUE.match(text, place)
        if found is not None:
            listed = found["braces"] or found["listed"]
            choices = tuple(re.split(r"[,|]", listed)) if listed else choices
            if not found["optional"]:
                value = found["equals"] or found["angle"] or found["word"] or "choice"
            place = found.end()
        if place == len(text):
            return tuple(flags), value, choices
        separator = SEPARATOR.match(text, place)
        if separator is None:
            return None
        place = separator.end()
    return None
