"""The manual pages of this machine: what the options of its own programs do, and the examples that the pages show.

Takes the pages of programs that are installed; gives `Example`s. A page is rendered by `man` on lines so long that a paragraph is one
line. An option counts where it takes no value, since nobody would know which; an example counts where the paragraph before it says
what it does.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

from overseer_training.records import Example, Turn

SOURCE = "manual pages"
FOLDERS = ("/usr/share/man", "/usr/local/share/man", "/opt/homebrew/share/man")
MOST_OPTIONS, MOST_EXAMPLES = 12, 12  # of a page; chosen, so that long pages do not crowd out the rest
SECONDS = 10  # for a page
LEAST_WORDS = 3  # of a sentence that says what an example does
OPTION = re.compile(r"^ {3,}(?:(?P<short>-\w)(?:, (?P<long>--[\w-]+))?|(?P<only>--[\w-]+))(?: {2,}(?P<text>\S.*))?$")
HEADING = re.compile(r"^[A-Z][A-Z -]{3,}$")
UNHELPFUL = re.compile(
    r"(?i)-|same as|obsolete|ignored|deprecated|alias|(?:print|display|show|output)s? .*(?:help|version|usage)"
)
OVERSTRIKE = re.compile(r".\x08")
SENTENCE = re.compile(r"^(.{12,110}?)(?:(?<=\S)[.;:](?:\s|$)|$)")


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a page teaches: a request, and the command."""

    request: str
    command: str


def find_pages() -> dict[str, pathlib.Path]:
    """Program -> page, for installed programs; empty where there is no `man`."""
    if shutil.which("man") is None:
        return {}
    pages: dict[str, pathlib.Path] = {}
    for folder in FOLDERS:
        for path in sorted(pathlib.Path(folder).glob("man[18]/*.[18]*")):
            name = path.name.split(".")[0]
            if name not in pages and re.fullmatch(r"[a-z][\w-]*", name) and shutil.which(name):
                pages[name] = path
    return pages


def read_pages(pages: dict[str, pathlib.Path]) -> Iterator[Example]:
    """The rows of `pages`, in the order of their names."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, text in zip(sorted(pages), pool.map(render, (pages[name] for name in sorted(pages))), strict=True):
            for number, lesson in enumerate(read_page(text, name)):
                turns = (Turn("user", lesson.request), Turn("assistant", lesson.command))
                yield Example(f"man/{name}/{number}", f"man/{name}", "command", turns, "linux", SOURCE)


def render(path: pathlib.Path) -> str:
    """The text of a page, a paragraph a line; empty where `man` cannot show it."""
    surroundings = {**os.environ, "MANWIDTH": "2000", "MANPAGER": "cat", "PAGER": "cat", "LC_ALL": "C.UTF-8"}
    try:
        shown = subprocess.run(["man", str(path)], env=surroundings, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return OVERSTRIKE.sub("", shown.stdout.decode("utf-8", "replace"))


def read_page(text: str, name: str) -> list[Lesson]:
    """What the rendered page of the program `name` teaches."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if HEADING.match(line):
            lines = sections.setdefault(line.strip(), [])
        else:
            lines.append(line)
    options = [lesson for title in ("DESCRIPTION", "OPTIONS") for lesson in _options(sections.get(title, []), name)]
    examples = [lesson for title in ("EXAMPLES", "EXAMPLE") for lesson in _examples(sections.get(title, []), name)]
    return options[:MOST_OPTIONS] + examples[:MOST_EXAMPLES]


def _options(lines: list[str], name: str) -> Iterator[Lesson]:
    for line, following in itertools.pairwise([*lines, ""]):
        match = OPTION.match(line)
        if match is None:
            continue
        deeper = len(following) - len(following.lstrip()) > len(line) - len(line.lstrip())
        text = match["text"] or (following.strip() if deeper and following.strip() else "")
        sentence = SENTENCE.match(text)
        if sentence and not UNHELPFUL.match(sentence[1]):
            what = sentence[1][0].lower() + sentence[1][1:]
            yield Lesson(f"{name}: {what}", f"{name} {match['short'] or match['only']}")


def _examples(lines: list[str], name: str) -> Iterator[Lesson]:
    said = ""
    for line in lines:
        stripped = line.strip()
        command = re.sub(r"^[$#%] ", "", stripped)
        if command.startswith(f"{name} "):
            if said and not command.endswith("\\"):
                yield Lesson(said, command)
            said = ""
        elif stripped:
            sentence = SENTENCE.match(stripped)
            said = sentence[1] if sentence and len(sentence[1].split()) >= LEAST_WORDS else ""
