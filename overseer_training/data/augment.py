"""Other names, numbers and paths for the rows of a family, so that a model learns to copy what a request names.

Takes families and inventories; gives bindings. A re-drawn value has a shape that the family has shown: a directory is only
nested, or absolute, where one of the family's own directories is; a number has as many digits; an address stays an address; an
extension stays among its kind; a file keeps its extension. No value repeats another slot's or a word of the request.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import random
import re
from collections.abc import Collection, Sequence
from typing import Any

import yaml

from overseer_training.data.coin import COINED_SHARE, FAMILY_NAMES, QUOTED_SHARE, coin, renew_value
from overseer_training.data.sources.corpus import CORPUS, SLOT, Family, is_redrawn
from overseer_training.errors import DataError

PLAIN = re.compile(r"/?\w[\w./+-]*")  # no spaces, quotes, wildcards, dotfiles or ~: their commands rely on them
WRAPPED = r"(?:\.[A-Za-z]\w{0,5})?(?:[.-]\d[\d-]*)?\.(?:gz|bz2|xz|zst|bak|old|orig|asc|gpg|enc|sha256|md5)"
EXTENSION = re.compile(rf"(?:{WRAPPED}|\.[A-Za-z]\w*(?:\.\d{{1,2}})?)$")  # .txt, .tar.gz, .log.1, .log.1.gz
FREE_SLOT = re.compile(r"(?<!\S)\{([a-z][a-z0-9_]*)\}(?=[\s,;?!]|\.(?:\s|$)|$)")
COUNTED = frozenset({"n", "days", "minutes", "port"})  # kinds of slots that nobody puts into quotes
NESTED_SHARE = 0.5  # of files, in families whose files lie in directories; chosen
TRIES = 20


@functools.cache
def load_inventories(path: pathlib.Path = CORPUS / "inventories.yaml") -> dict[str, dict[str, tuple[str, ...]]]:
    """Slot name -> shape -> values.

    Raises:
        DataError: the file cannot be read, or has values that are not plain words or whole numbers.
    """
    try:
        document = yaml.safe_load(path.read_text())
        groups = {kind: entry if isinstance(entry, dict) else {"": entry} for kind, entry in document.items()}
        wrong = [
            value for group in groups.values() for values in group.values() for value in values if not _is_plain(value)
        ]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not a readable inventory: {' '.join(str(error).split())}") from error
    if wrong:
        raise DataError(
            f"{path} has values that are not plain words: {', '.join(map(repr, wrong))}; quote yes, no, true, null"
        )
    inventories: dict[str, dict[str, tuple[str, ...]]] = {}
    for kind, group in groups.items():
        shapes: dict[str, list[str]] = {}
        for name, values in group.items():
            for value in map(str, values):
                shapes.setdefault(name or _shape(kind, value), []).append(value)
        inventories[kind] = {shape: tuple(values) for shape, values in shapes.items()}
    return inventories


@dataclasses.dataclass(frozen=True)
class Variable:
    """A slot that may vary, and what it may be in its family.

    Attributes:
        kind: of inventory; empty for other names and texts, which are only coined.
        values: of a shape that the family has shown, without words that its command or wordings have anyway.
        folders: for files of families whose files lie in directories; empty otherwise.
        shapes: that the family has shown, in order.
        said: words that its command or wordings have anyway.
    """

    slot: str
    kind: str
    values: tuple[str, ...]
    folders: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ("plain",)
    said: frozenset[str] = frozenset()


def find_variables(family: Family) -> tuple[Variable, ...]:
    """The slots of `family` that may vary, in the order of its bindings."""
    texts = (family.command, family.macos or "", *family.wordings)
    said = frozenset(word for text in texts for word in _words(SLOT.sub(" ", text)))
    found = []
    for slot in family.slots[0]:
        kind = slot.rstrip("0123456789")
        if slot in family.fixed:
            continue
        if slot in FAMILY_NAMES and _may_be_any(slot, family):
            found.append(Variable(slot, "", ()))
        if not is_redrawn(slot):
            continue
        shapes = frozenset(_shape(kind, shown[slot]) for shown in family.slots if PLAIN.fullmatch(shown[slot]))
        folders = _values("dir", frozenset({"plain", "nested"})) if kind == "file" and "nested" in shapes else ()
        shapes = frozenset({"plain"}) if kind == "file" else shapes
        values = _values(kind, shapes)
        values, folders = (tuple(v for v in group if said.isdisjoint(_words(v))) for group in (values, folders))
        if values:
            found.append(Variable(slot, kind, values, folders, tuple(sorted(shapes)), said))
    return tuple(found)


def redraw(binding: dict[str, str], variables: Sequence[Variable], rng: random.Random) -> dict[str, str]:
    """`binding` with new values in the slots that may vary; an equal one when none may.

    A slot keeps its value when another value of the binding holds or repeats it.
    """
    drawn = dict(binding)
    for variable in variables:
        slot, old = variable.slot, binding[variable.slot]
        if (variable.kind and not PLAIN.fullmatch(old)) or any(
            _overlap(old, binding[other]) for other in binding if other != slot
        ):
            continue
        for _ in range(TRIES):
            value = _draw(variable, old, rng)
            if value != old and not any(_overlap(value, drawn[other]) for other in drawn if other != slot):
                drawn[slot] = value
                break
    return drawn


def _draw(variable: Variable, old: str, rng: random.Random) -> str:
    """A value for the slot, like `old` where its kind has no inventory.

    For a file with the extension of `old`, or `old` itself where it has none or is absolute.
    """
    if not variable.kind:
        return renew_value(old, rng) if rng.random() < COINED_SHARE else old
    value = _coined(variable, rng) or rng.choice(variable.values)
    if variable.kind != "file":
        return value
    extension = EXTENSION.search(old)
    if extension is None or old.startswith("/"):
        return old
    folder = f"{rng.choice(variable.folders)}/" if variable.folders and rng.random() < NESTED_SHARE else ""
    return folder + value + extension.group()


def _may_be_any(slot: str, family: Family) -> bool:
    """Whether every wording says the slot, no other slot says it in words, and it is not the name of a setting (`vm.swappiness`)."""
    is_said = all(f"{{{slot}}}" in wording for wording in family.wordings)
    is_tied = any(other.startswith(f"{slot}_") for other in family.slots[0])
    return is_said and not is_tied and not (slot == "key" and any("." in shown["key"] for shown in family.slots))


def _coined(variable: Variable, rng: random.Random) -> str | None:
    """A value that no inventory has; None where one of an inventory is to be taken."""
    if rng.random() >= COINED_SHARE:
        return None
    value = coin(variable.kind, rng.choice(variable.shapes), rng)
    return value if value is not None and variable.said.isdisjoint(_words(value)) else None


def put_quotes(wording: str, kinds: Collection[str], rng: random.Random) -> str:
    """`wording` with quotes around some of its slots of `kinds` that stand free: people write "the file 'notes.txt'" too."""
    quote = rng.choice('\'""`')

    def around(match: re.Match[str]) -> str:
        is_quoted = match[1].rstrip("0123456789") in kinds and rng.random() < QUOTED_SHARE
        return f"{quote}{match[0]}{quote}" if is_quoted else match[0]

    return FREE_SLOT.sub(around, wording)


@functools.cache
def _values(kind: str, shapes: frozenset[str]) -> tuple[str, ...]:
    groups = load_inventories().get(kind, {})
    return tuple(value for shape, values in groups.items() if shape in shapes for value in values)


@functools.cache
def _shape(kind: str, value: str) -> str:
    """What a command may rely on in a value of this kind; empty when it is not known."""
    if kind == "ext":
        return next((group for group, values in load_inventories()["ext"].items() if value in values), "")
    if value.isdigit():
        return f"{len(value)} digits"
    if kind == "host" and "." in value:
        return "address" if re.fullmatch(r"[\d.]+", value) else "domain"
    return "absolute" if value.startswith("/") else "nested" if "/" in value else "plain"


@functools.lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    """The words of `text`, in lower case."""
    return frozenset(re.findall(r"\w+", text.casefold()))


def _overlap(left: str, right: str) -> bool:
    """Whether one value holds the other as a whole word or path component."""
    short, long = sorted((left, right), key=len)
    return short in long and re.search(rf"(?<!\w){re.escape(short)}(?!\w)", long) is not None


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and PLAIN.fullmatch(str(value)) is not None
