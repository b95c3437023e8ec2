"""The packaged corpus: reads families, renders rows, and says which split each family is in.

Takes `corpus/`; gives `Family` and, through `render`, `Example`s. Runs nothing: `evaluation/proof.py` proves the commands.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from overseer_training.data.sources.entries import read_entries
from overseer_training.prompts import EXPLAIN_REQUEST
from overseer_training.records import Example, Platform, Turn

CORPUS = pathlib.Path(__file__).parents[3] / "corpus"
SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")
TEST_SHARE, VALIDATION_SHARE = 0.14, 0.05  # of families that may be held out; chosen: well over 400 test rows
BASIC_WORDS = (
    3  # a command of so few words (`df -h`, `mv {file} {file2}`) is what every owner asks for: always trained on
)
KEYS = {
    *("family", "utility", "fixture", "command", "macos", "also", "slots", "wordings", "explain"),
    *("platform", "fixed", "expect", "exit_code"),
}
REDRAWN = {
    *("dir", "file", "ext", "name", "word", "n", "days", "minutes"),
    *("user", "host", "port", "service", "package", "branch"),
}
Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True)
class Family:
    """One command with slots, its wordings and the values that its slots take; see corpus/README.md."""

    name: str
    utility: str
    fixture: str
    command: str
    wordings: tuple[str, ...]
    explain: str
    macos: str | None = None
    also: tuple[str, ...] = ()
    slots: tuple[dict[str, str], ...] = ({},)
    platform: Platform | None = None
    fixed: frozenset[str] = frozenset()
    expect: tuple[str, ...] = ()
    exit_code: int = 0
    path: str = ""

    @property
    def split(self) -> Split:
        """A function of the command alone: a family never moves when the corpus grows, and families that teach the same
        command under other names are on the same side. Basic commands are never held out.
        """
        words = SLOT.sub("{}", self.command).removeprefix("sudo ").replace('"', "'").split()
        return "train" if len(words) <= BASIC_WORDS else split_of(" ".join(words))

    def command_for(self, platform: Platform) -> str | None:
        """The command template for `platform`, or None where the family does not exist there."""
        if self.platform not in (None, platform):
            return None
        return self.macos if platform == "macos" and self.macos else self.command


def split_of(key: str) -> Split:
    """The split of what `key` names; a function of the key alone."""
    position = int.from_bytes(hashlib.sha256(f"split-2:{key}".encode()).digest()[:8], "big") / 2**64
    if position < TEST_SHARE:
        return "test"
    return "validation" if position < TEST_SHARE + VALIDATION_SHARE else "train"


def fill(template: str, binding: dict[str, str]) -> str:
    """`template` with each `{slot}` of `binding` replaced; other braces stay."""
    return SLOT.sub(lambda match: binding.get(match.group(1), match.group(0)), template)


def form_of(family: Family, value: str = ".+") -> re.Pattern[str]:
    """What the commands of `family` look like; a slot that comes again must have the same value.

    Args:
        value: regular expression of what may stand in a slot.
    """
    template, names = family.command.removeprefix("sudo "), set(family.slots[0])
    parts, seen, end = [r"(?:sudo\s+)?"], set(), 0
    for match in SLOT.finditer(template):
        name = match.group(1)
        if name in names:
            parts += [
                _literal(template[end : match.start()]),
                f"(?P={name})" if name in seen else f"(?P<{name}>{value})",
            ]
            seen.add(name)
            end = match.end()
    return re.compile("".join([*parts, _literal(template[end:])]))


class Forms:
    """What the commands of some families look like, to be asked whether a command has the form of one."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._by_program: dict[str, list[re.Pattern[str]]] = {}
        for family in families:
            self._by_program.setdefault(_program(family.command), []).append(form_of(family))
        self._anywhere = self._by_program.pop("", [])

    def match(self, command: str) -> bool:
        """Whether `command` has one of the forms."""
        forms = (*self._by_program.get(_program(command), ()), *self._anywhere)
        return any(form.fullmatch(command) for form in forms)


def _program(command: str) -> str:
    """The first word; empty where a slot or a variable may stand for any."""
    word = command.removeprefix("sudo ").split(maxsplit=1)[0]
    return word if re.fullmatch(r"[\w.-]+", word) else ""


def _literal(text: str) -> str:
    return r"\s+".join(map(re.escape, re.split(r"\s+", text)))


def load_families(folder: pathlib.Path = CORPUS / "commands") -> list[Family]:
    """All families in `folder`, in the order of file names.

    Raises:
        DataError: a file is not valid; the message lists every problem.
    """
    return [_parse(entry, path) for entry, path in read_entries(folder, "family", _problems)]


def load_fixture_scripts(folder: pathlib.Path = CORPUS / "fixtures") -> dict[str, tuple[str, str]]:
    """Fixture name -> (script that builds the tree, script that starts processes or an empty text)."""
    scripts = {}
    for path in sorted(folder.glob("*.sh")):
        if not path.name.endswith(".live.sh"):
            live = path.with_suffix(".live.sh")
            scripts[path.stem] = (path.read_text(), live.read_text() if live.exists() else "")
    return scripts


def render(family: Family, platform: Platform = "linux") -> Iterator[Example]:
    """One row for each wording, with the bindings in turn; nothing when the family does not exist on `platform`."""
    template = family.command_for(platform)
    if template is None:
        return
    for number, wording in enumerate(family.wordings):
        binding = family.slots[number % len(family.slots)]
        yield Example(
            id=f"{family.name}/{number}/{platform}",
            family=family.name,
            skill="command",
            turns=(Turn("user", fill(wording, binding)), Turn("assistant", fill(template, binding))),
            platform=platform,
            source="corpus",
        )


def render_explanation(family: Family, number: int, platform: Platform = "linux") -> Example | None:
    """The row of wording `number` followed by a request to explain, or None where the family does not exist."""
    template = family.command_for(platform)
    if template is None or (platform == "macos" and family.macos):
        return None
    binding = family.slots[number % len(family.slots)]
    return Example(
        id=f"{family.name}/{number}/{platform}/explain",
        family=family.name,
        skill="explanation",
        turns=(
            Turn("user", fill(family.wordings[number], binding)),
            Turn("assistant", fill(template, binding)),
            Turn("user", EXPLAIN_REQUEST),
            Turn("assistant", fill(family.explain, binding)),
        ),
        platform=platform,
        source="corpus",
    )


def _parse(entry: dict[str, Any], path: str) -> Family:
    return Family(
        name=entry["family"],
        utility=entry["utility"],
        fixture=entry["fixture"],
        command=entry["command"].strip(),
        wordings=tuple(entry["wordings"]),
        explain=" ".join(entry["explain"].split()),
        macos=entry["macos"].strip() if "macos" in entry else None,
        also=tuple(also.strip() for also in entry.get("also", [])),
        slots=tuple(entry.get("slots", [{}])),
        platform=entry.get("platform"),
        fixed=frozenset(entry.get("fixed", [])),
        expect=tuple(entry.get("expect", [])),
        exit_code=int(entry.get("exit_code", 0)),
        path=path,
    )


def _problems(entry: dict[str, Any]) -> list[str]:
    return _entry_problems(entry) or _family_problems(_parse(entry, ""))


def _entry_problems(entry: dict[str, Any]) -> list[str]:
    problems = [f"unknown key {key!r}" for key in entry.keys() - KEYS]
    for key in ("family", "utility", "fixture", "command", "explain", "macos"):
        if (key != "macos" or key in entry) and (not isinstance(entry.get(key), str) or not entry[key].strip()):
            problems.append(f"{key!r} must be a text")
    if "wordings" not in entry:
        problems.append("'wordings' must be a list of texts")
    for key in ("wordings", "also", "expect", "fixed"):
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problems.append(
                f"{key!r} must be a list of texts (quote items that hold ': ' or start with a special character)"
            )
    slots = entry.get("slots", [{}])
    if not isinstance(slots, list) or not slots or not all(isinstance(binding, dict) for binding in slots):
        problems.append("'slots' must be a list of mappings")
    elif len({frozenset(binding) for binding in slots}) > 1:
        problems.append("every binding in 'slots' must have the same names")
    elif not all(isinstance(value, str) for binding in slots for value in binding.values()):
        problems.append("slot values must be texts or numbers")
    if entry.get("platform") not in (None, "linux", "macos"):
        problems.append("'platform' must be linux or macos")
    if not str(entry.get("exit_code", 0)).isdecimal():
        problems.append("'exit_code' must be a whole number")
    return problems


def _family_problems(family: Family) -> list[str]:
    problems = []
    names = set(family.slots[0])
    used = set(SLOT.findall(family.command)) & names
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", family.name):
        problems.append("family names are kebab-case")
    if "\n" in family.command:
        problems.append("the command must be one line")
    if len(family.wordings) < 4:
        problems.append(f"{len(family.wordings)} wordings; 12 are wanted, 4 are the least")
    folded = [" ".join(wording.lower().split()) for wording in family.wordings]
    problems += [
        f"wording twice: {wording!r}" for wording in sorted({item for item in folded if folded.count(item) > 1})
    ]
    for name in sorted(names - set(SLOT.findall(" ".join((family.command, *family.wordings))))):
        problems.append(f"slot {name!r} is never used")
    for wording in family.wordings:
        present = set(SLOT.findall(wording))
        if present - names:
            problems.append(f"wording has unknown slots {sorted(present - names)}: {wording!r}")
        missing = {name for name in used if is_redrawn(name) and name not in family.fixed} - present
        if missing:
            problems.append(f"wording lacks {sorted(missing)}, which the command needs: {wording!r}")
    return problems


@functools.cache
def is_redrawn(slot: str) -> bool:
    """Whether augmentation gives new values to slots of this name."""
    return slot.rstrip("0123456789") in REDRAWN
