"""What a model is asked when a tool is wanted, what it answers, and what of that reaches a person.

The request holds the candidates, so that a small model chooses among tools that exist instead of remembering them. Its answer has the
form of `advice.recommend`:

    ncdu: browse which folders take the space on a disk, interactively
    sudo apt install ncdu
    also: gdu, baobab

Whatever a model writes, `checked` keeps tools that the catalogue knows and takes their install commands from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from overseer_training.data.sources.advice import INSTALL
from overseer_training.data.tools.catalogue import Candidate, Catalogue, Host

CHOICES = 3  # that an answer may name
INSTALLED = "already installed"
REQUEST = "Which tool? {need}\n{candidates}"
SHORT_LINE = 4  # words; a longer line that starts with a tool's name is prose ("find out which ...")

NAME = r"[A-Za-z0-9@][\w+@/-]*(?:\.[\w+-]+)*"
OPENING = re.compile(r"^(?:[-*•>#$]+\s+|\(?\d{1,2}[.)]\s+)+")
MARKED = re.compile(rf"(?<!\w)(`+|\*\*|[\"'])(?:sudo\s+)?({NAME})[^`*\"'\n]*\1")
MARKS = re.compile(r"^```\w*$|`+|\*\*")
LIST = re.compile(
    r"^(?:(?:see |you (?:can|could) )?also|alternatives?|alternatively|others?|tools?|recommended|recommendations?|best|answer|options?)\b"
    r"[^:\n]{0,20}?(?::|\s(?:try|use|consider)\b:?|\s)\s*",
    re.IGNORECASE,
)
BETWEEN = re.compile(r"\s*(?:[,;/]|\band\b|\bor\b|\bthen\b)\s*")
FIRST = re.compile(rf"^({NAME})\s*(?:[(\[][^)\]]*[)\]]\s*)?(?::(?!//)|\s[-–—]+\s|$)")
INSIDE = re.compile(r"(?<=[\s.])(?=(?:also|alternatives?|install(?:ation)?|or):\s)", re.IGNORECASE)
NO_NAMES = frozenset(  # words that label a line
    (
        "why",
        "install",
        "installation",
        "usage",
        "use",
        "note",
        "example",
        "command",
        "run",
        "how",
        "hint",
        "here",
        "sure",
        "purpose",
    )
)
ADVISED = re.compile(
    rf"\b(?:try|use|using|recommend|suggest|install|with|is|called|consider)\s+(?:the\s+)?({NAME})", re.IGNORECASE
)
INSTALLS = re.compile(
    rf"(?:{'|'.join(re.escape(command.removeprefix('sudo ')) for command in INSTALL.values())}|apt-get install|pipx install)"
    rf"\s+(?:-\S+\s+)*({NAME})"
)


def request(need: str, candidates: Sequence[Candidate]) -> str:
    """What the user's turn says: the need, and a line for each candidate, best match first, with what it takes to have it."""
    return REQUEST.format(need=need, candidates="\n".join(map(_line, installed_first(candidates))))


def installed_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """`candidates` in their order, but what is installed before the rest: nobody should be sent to install a second one."""
    return sorted(candidates, key=lambda candidate: not candidate.is_installed)


def answer(choices: Sequence[Candidate]) -> str:
    """The answer that recommends the first of `choices` and names the others."""
    first, *others = choices[:CHOICES]
    lines = [f"{first.name}: {first.purpose}", *_how(first)]
    if others:
        lines.append(f"also: {', '.join(other.name for other in others)}")
    return "\n".join(lines)


def describe(choices: Iterable[Candidate]) -> str:
    """What a person reads of checked choices: each tool with its purpose, and below it how to get it."""
    return "\n".join(
        line
        for choice in choices
        for line in (f"{choice.name}: {choice.purpose}", *(f"    {way}" for way in _how(choice)))
    )


def checked(text: str, candidates: Sequence[Candidate], catalogue: Catalogue, host: Host) -> list[Candidate]:
    """The tools that a model's answer recommends, at most `CHOICES`; the best matches where it recommends none that exists.

    Args:
        text: the answer of a model that may have invented names and install commands.
        candidates: those of its request, best match first.
    """
    offered = {candidate.name.casefold(): candidate for candidate in candidates}

    def find(name: str) -> Candidate | None:
        return offered.get(name.casefold()) or catalogue.find(name, host)

    found = [find(name) for name in named_tools(text, lambda name: find(name) is not None)]
    choices = {choice.name: choice for choice in found if choice is not None}
    return (list(choices.values()) or installed_first(candidates))[:CHOICES]


def named_tools(text: str, is_known: Callable[[str], bool]) -> list[str]:
    """The tools that an answer recommends, in its order, each once; it may be a list, prose, or commands.

    Args:
        is_known: whether a word is the name of a tool; asked about words that nothing marks as a name. A word that the form of
            the answer marks as one counts in any case, so that an invented tool takes its place.
    """
    names: list[str] = []
    for line in INSIDE.sub("\n", text).split("\n"):
        names += _names_in(OPENING.sub("", line.strip()), is_known)
    return _unique(names or INSTALLS.findall(text))


def _names_in(line: str, is_known: Callable[[str], bool]) -> list[str]:
    plain = MARKS.sub("", line).strip()
    listing = LIST.match(plain)
    if listing:
        return _listed(plain[listing.end() :])
    first = FIRST.match(plain)
    if first:
        return [] if first[1].lower() in NO_NAMES else [first[1]]
    if INSTALLS.search(plain):
        return []  # names the package of a tool that another line names; where none does, see `named_tools`
    if "," in plain and all(re.fullmatch(NAME, part) for part in BETWEEN.split(plain.rstrip("."))):
        return _listed(plain)
    words = plain.removeprefix("sudo ").split()
    if words and len(words) <= SHORT_LINE and is_known(words[0]):
        return [words[0]]
    marked = [name for _, name in MARKED.findall(line) if is_known(name)]
    return marked or [name for name in ADVISED.findall(plain) if is_known(name)]


def _listed(text: str) -> list[str]:
    matches = (
        re.match(rf"({NAME})(?:\s*\(.*|\s+[-–—].*|[:.].*)?$", part.strip("[]\"' ")) for part in BETWEEN.split(text)
    )
    return [match[1] for match in matches if match]


def _unique(names: Iterable[str]) -> list[str]:
    seen: dict[str, str] = {}
    for name in names:
        seen.setdefault(name.casefold(), name)
    return list(seen.values())


def _line(candidate: Candidate) -> str:
    package = "" if candidate.package == candidate.name else candidate.package
    way = "installed" if candidate.is_installed else f"{candidate.manager} {package}".strip()
    return f"{candidate.name} ({way}): {candidate.purpose}" if way else f"{candidate.name}: {candidate.purpose}"


def _how(choice: Candidate) -> list[str]:
    """The line that says how to get it; none where nobody knows."""
    way = INSTALLED if choice.is_installed else choice.install_command
    return [way] if way else []
