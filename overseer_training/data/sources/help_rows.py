"""Rows from the tables of options that installed programs print: what an option does, said of one file, and the command.

Takes `Help`; gives `Lesson`s, which `evaluation/option_proof.py` proves, and keeps and reads the rows that were proved. A description that
is no plain instruction (`natural sort of numbers`, `like -h, but …`, `see above`) teaches nothing and is left out: a wrong row is worse than none.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator

from overseer_training.data.sources.help_text import Help, Option
from overseer_training.data.sources.kaggle.store import kaggle_folder
from overseer_training.errors import DataError
from overseer_training.files import write_text
from overseer_training.records import Example, Turn

SOURCE = "help"
LEAST_WORDS, MOST_WORDS = 3, 14  # of a description; chosen
_INSTRUCTIONS = """
    abort add align annotate append archive avoid back break call canonicalize change check clear collapse color colorize combine compare
    compress concatenate consider convert copy count create cut decode decompress decrypt delete delimit dereference descend discard display
    don't draw dump echo embed emit enclose encode encrypt erase escape exclude execute expand explain export extract fill filter find fold
    follow format generate give group hide highlight identify ignore include indent insert interpret invert join keep limit list make mark
    match merge move never normalize number omit only output overwrite pack pad parse prefix prepend preserve print process produce prompt put
    quote read recurse reduce reformat remove repeat replace report resolve restore restrict reverse round sanitize save scale scan search
    select separate shorten show skip sort split squeeze store strip summarize suppress swap test translate transform traverse treat
    truncate turn uncompress underline update use verify wrap write"""
_ACRONYMS = """
    ASCII BOM BSD C CPU CPUS CR CRC CRLF CSV DNS DOS ELF EOF EOL GID GNU HTML I ID IDS IEC IP IPC ISO JSON LF MIME NUL NUMA O PID PIDS POSIX
    RAM SHA SI TAB TABS TCP TTY UDP UID UNIX URL UTC UTF UUID XML YAML ZIP"""
INSTRUCTIONS, ACRONYMS = frozenset(_INSTRUCTIONS.split()), frozenset(_ACRONYMS.split())
CUT_OFF = re.compile(r"\b(?:a|an|the|of|in|to|with|for|and|or|by|on|from|at|as)$")
PLAIN = re.compile(r"[A-Za-z0-9 ,./+'-]+")
ASIDE = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])")
CLAUSE_END = re.compile(
    r"[;:]|(?<=\w)\.(?:\s|$)|,? (?:e\.g|i\.e)\b|,? (?:which|so that|so as|useful|in order|this is|but see|see)\b|, then\b|,? and exits?\b| Examples?\b"
)
UNHELPFUL = re.compile(
    r"(?i)\b(?:help|usage|version|deprecated|obsolete|ignored|alias|same as|equivalent|implies|default|this|these|those|such|above|below|"
    r"following|option|options|flag|mode|argument|arguments|specified|given|named|unless|already|we|interactive\w*|debug\w*|verbose\w*|licen[cs]e|"
    r"copyright|compatib\w+)\b|(?<!\S)--?\w|'(?!t\b)"
)
NUMBER = re.compile(r"n|num|number|count|digits|level|depth|lines|int|integer|uint")
WIDTH = re.compile(r"cols|columns|width")
FILE = re.compile(r"file|filename|outfile|output|out-file")
WRITES = re.compile(r"(?i)(?:write|save|store|put|dump|output|append|create|send|place|print|generate)s?\b")
NUMBERS, WIDTHS = ("2", "3", "4", "5"), ("20", "30", "40")
OLD_FILE, NEW_FILE = "words.txt", "result.txt"  # the first is there where `evaluation/option_proof.py` tries commands
MOST_CHOICES = 2  # of an option
OF_A_FILE = (
    "run {program} on {file} and {what}",
    "use {program} to {what}: {file}",
    "{program} {file}: {what}",
    "with {program}, {what}: {file}",
)
OF_NOTHING = ("run {program} and {what}", "use {program} to {what}", "{program}: {what}", "with {program}, {what}")


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What one option can teach.

    Attributes:
        option: as it stands in a command, with its value.
        what: what it does, as an instruction that names the value.
    """

    option: str
    what: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A request, and the command of `program` that was proved."""

    program: str
    request: str
    command: str


def lessons(table: Help) -> list[Lesson]:
    """The lessons of a table, in its order; each instruction once."""
    found: dict[str, Lesson] = {}
    for option in table.options:
        for lesson in _lessons(option, table.operand != "none"):
            found.setdefault(lesson.what, lesson)
    return list(found.values())


def request_for(program: str, file: str, what: str) -> str:
    """What a person might say, in one of four forms that the words of the row decide; `file` is empty where the program needs none."""
    forms = OF_A_FILE if file else OF_NOTHING
    form = forms[zlib.crc32(f"{program} {what}".encode()) % len(forms)]
    if form.startswith("use") and re.match(r"(?:do not|don't|never|only|use)\b", what):
        form = forms[0]  # "use ls to do not …" is no sentence
    return form.format(program=program, file=file, what=what)


def kept_rows() -> pathlib.Path:
    """Where `overseer data programs` keeps its rows: in the user's cache folder, like base models."""
    return kaggle_folder().parent / "help.jsonl"


def write_rows(rows: Iterable[Row]) -> None:
    """Keep `rows`; those from before go."""
    write_text(kept_rows(), "".join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n" for row in rows))


def read_rows() -> list[Example]:
    """The rows that are kept.

    Raises:
        DataError: there are none, or they cannot be read.
    """
    path = kept_rows()
    if not path.exists():
        raise DataError("--sources help: no installed program was asked yet; do it with: overseer data programs")
    try:
        rows = [Row(**json.loads(line)) for line in path.read_text().split("\n") if line]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}; make it again with: overseer data programs") from error
    return [
        Example(
            f"help/{row.program}/{number}", f"help/{row.program}", "command",
            (Turn("user", row.request), Turn("assistant", row.command)), "linux", SOURCE,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip


def _lessons(option: Option, takes_file: bool) -> Iterator[Lesson]:
    flag = next((flag for flag in option.flags if re.fullmatch(r"-\w", flag)), option.flags[0])
    between = "=" if flag.startswith("--") else " "
    glued = re.fullmatch(r"-\w([a-z]+)", flag)
    if glued and re.search(rf"\b{glued[1]}\b", option.text):
        return  # `-Idir  search dir for …` is an option with its value
    if not option.value:
        what = _instruction(option.text)
        if what is not None:
            yield Lesson(flag, what)
        return
    for value in _values(option, takes_file):
        said = re.sub(rf"<{re.escape(option.value)}>|\b{re.escape(option.value.upper())}\b", value, option.text)
        what = _instruction(said)
        if what is not None and re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", what):
            yield Lesson(f"{flag}{between}{value}", what)


def _values(option: Option, takes_file: bool) -> tuple[str, ...]:
    """Values to try for an option that needs one; none where nobody could know what it takes.

    A second file that is read has patterns, names or the like in it, which nobody can make up; where it is the only one, it is any file.
    """
    if option.choices:
        return tuple(choice for choice in option.choices if re.fullmatch(r"[\w.+-]+", choice))[:MOST_CHOICES]
    name, place = option.value.lower(), zlib.crc32(option.text.encode())
    if NUMBER.fullmatch(name):
        return (NUMBERS[place % len(NUMBERS)],)
    if WIDTH.fullmatch(name):
        return (WIDTHS[place % len(WIDTHS)],)
    if FILE.fullmatch(name):
        return (NEW_FILE,) if WRITES.match(option.text) else () if takes_file else (OLD_FILE,)
    return ()


def _instruction(text: str) -> str | None:
    """The first clause of `text` as an instruction; None where it is no plain one."""
    clause = CLAUSE_END.split(ASIDE.sub("", text), maxsplit=1)[0].strip(" ,")
    words = clause.split()
    if not LEAST_WORDS <= len(words) <= MOST_WORDS or not PLAIN.fullmatch(clause):
        return None
    if UNHELPFUL.search(clause) or CUT_OFF.search(clause):
        return None
    verb = _bare_verb(*words[:2])
    if (
        verb is None
        or words[1] == "of"
        or any(word.upper() not in ACRONYMS for word in re.findall(r"\b[A-Z]+s?\b", clause))
    ):
        return None  # a name in capitals stands for a value
    return " ".join([verb, *words[1:]])


def _bare_verb(first: str, second: str) -> str | None:
    """`print` for `Prints`; None where it is no instruction."""
    word = first.lower()
    if word == "do":
        return word if second == "not" else None
    return next(
        (bare for bare in (word, word.removesuffix("s"), word.removesuffix("es")) if bare in INSTRUCTIONS), None
    )
