"""Coins values that no inventory has, so that a model copies what a request names instead of choosing from what it has learned.

Takes what a slot is (`dir`, `user`, `port` …) and its shape; gives a value of that shape: plain words without spaces, quotes or wildcards, as people
name things: `states_to_csv`, `Thumbs`, `kenrod`, `WEB-03`. Knows slots by their names alone.
"""

from __future__ import annotations

import functools
import pathlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from overseer_training.data.sources.corpus import CORPUS
from overseer_training.errors import DataError

PARTS = {"words", "onsets", "vowels", "codas", "text_extensions", "other_extensions", "roots", "top_levels"}
COINED_SHARE = 0.5  # of values that are drawn; chosen
QUOTED_SHARE = 0.12  # of slots in requests that stand free; chosen

# Slots of compositions whose values may be any other name, or any other number, as long as the request and the command say the same.
NAMES = frozenset({
    "file_name", "folder", "fresh", "group", "key", "leftover", "link", "list", "member", "old", "out", "owner", "packed", "patch", "path",
    "program", "program_name", "remote", "stem", "text", "tree", "user",
})  # fmt: skip
IDENTIFIERS = frozenset({"store", "var", "variable"})  # names of shell variables
NUMBERS = frozenset(
    {"bytes", "count", "d", "inode", "k", "length", "limit", "line", "m", "rate", "size", "start", "uid"}
)
# Slots of families whose values may be any other of their form.
FAMILY_NAMES = frozenset({
    "address", "container", "domain", "folder", "group", "key", "label", "link", "member", "message", "mountpoint", "new", "old", "path",
    "pid", "prefix", "session", "table", "text", "title", "volume",
})  # fmt: skip
MOSTLY_LOWER = frozenset({"user", "host", "service", "package", "branch"})
KEPT = frozenset({"", "~", "..", "bin", "data", "etc", "home", "lib", "local", "log", "mnt", "opt", "share", "srv", "tmp", "user", "usr", "var"})  # fmt: skip
NAME = re.compile(r"[~\w./-]*[A-Za-z][\w./-]*")
ENDING = re.compile(r"(?<=\w)(?:\.[A-Za-z]\w*)?(?:\.\w+)$")


@functools.cache
def load_parts(path: pathlib.Path = CORPUS / "coined.yaml") -> Mapping[str, Sequence[str]]:
    """What names are made of: `words`, `onsets`, `vowels`, `codas`, `text_extensions`, `other_extensions`, `roots`, `top_levels`.

    Raises:
        DataError: the file cannot be read, or lacks one of them.
    """
    try:
        parts = {name: tuple(map(str, values)) for name, values in yaml.safe_load(path.read_text()).items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not readable: {' '.join(str(error).split())}") from error
    if set(parts) != PARTS or not all(parts.values()):
        raise DataError(f"{path} must have {', '.join(sorted(PARTS))}, and nothing else")
    return parts


def coin(kind: str, shape: str, rng: random.Random) -> str | None:
    """A value for a slot.

    Args:
        kind: name of an inventory (`corpus/inventories.yaml`).
        shape: what augmentation calls it: `plain`, `nested`, `absolute`, `2 digits`, `address`, `domain`, or of an extension its group.

    Returns:
        None where nothing can be coined: an extension of a group, since a command may rely on what such files are; a low port, which
        belongs to a service.
    """
    if shape.endswith(" digits"):
        digits = int(shape.split()[0])
        if kind == "port" and digits < 4:
            return None
        low, high = (1024, 65536) if kind == "port" else (2, 10**digits)
        return str(rng.randrange(max(low, 10 ** (digits - 1)), min(high, 10**digits)))
    if kind == "ext":
        return coin_extension(shape, rng) if shape in ("", "text", "code") else None
    if shape == "address":
        return ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    if shape == "domain":
        labels = [_lower(rng).replace("_", "-") for _ in range(rng.choice((1, 1, 2)))]
        return ".".join([*labels, rng.choice(load_parts()["top_levels"])])
    name = _lower if kind in MOSTLY_LOWER and rng.random() < 0.85 else coin_name
    if shape == "nested":
        return "/".join(name(rng) for _ in range(rng.choice((2, 2, 3))))
    if shape == "absolute":
        return rng.choice(load_parts()["roots"]) + "".join(f"/{name(rng)}" for _ in range(rng.choice((1, 1, 2))))
    return name(rng)


def renew(entry: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """`entry`, values of slots that hang together, with another name or number where its slot may have any.

    A path keeps its well-known folders, its dots and its extension; a number its digits, and of the ways to say it those in digits.
    """
    renewed = {slot: _renew_name(slot, value, rng) for slot, value in entry.items()}
    plain = [slot for slot, value in entry.items() if not isinstance(value, list)]
    if len(plain) != 1:
        return renewed
    slot, value = plain[0], str(entry[plain[0]])
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return {**entry, slot: f"{rng.randrange(2001, 2031)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"}
    number = re.fullmatch(r"(\d+)[A-Za-z]?", value)
    if slot not in NUMBERS or number is None or number[1] in {"0", "1"}:
        return renewed
    as_digits = re.compile(rf"(?<![\d.]){number[1]}(?!\d|st|nd|rd|th)")
    fresh = coin("n", f"{len(number[1])} digits", rng) or number[1]
    for name in set(entry) - {slot}:  # the ways to say it
        renewed[name] = [as_digits.sub(fresh, str(way)) for way in entry[name] if as_digits.search(str(way))]
    return {**renewed, slot: as_digits.sub(fresh, value)} if all(renewed.values()) else dict(entry)


def renew_value(value: str, rng: random.Random) -> str:
    """Another value like this one: an address, a domain, a number, words of a text, a path or a name; itself where it is none of these."""
    if re.fullmatch(r"\d+(\.\d+){3}", value):
        return coin("host", "address", rng) or value
    if re.fullmatch(r"\d{2,}", value):
        return coin("n", f"{len(value)} digits", rng) or value
    if re.fullmatch(r"[A-Za-z]+( [A-Za-z]+)+", value):
        words = " ".join(_word(rng) for _ in value.split())
        return words.capitalize() if value[0].isupper() else words
    if re.fullmatch(r"[a-z-]+(\.[a-z-]+)*\.(com|org|net|lan)", value):
        return coin("host", "domain", rng) or value
    if not NAME.fullmatch(value):
        return value
    renewed = "/".join(_renew_part(part, rng) for part in value.split("/"))
    return renewed.replace("-", "_") if re.fullmatch(r"\w+", value) else renewed  # an identifier stays one


def _renew_name(slot: str, value: Any, rng: random.Random) -> Any:
    if slot in IDENTIFIERS:
        name = re.sub(r"\W", "_", coin_name(rng))
        return name.upper() if str(value).isupper() else name.lower()
    if slot not in NAMES or isinstance(value, list) or not NAME.fullmatch(str(value)):
        return value
    return "/".join(_renew_part(part, rng) for part in str(value).split("/"))


def _renew_part(part: str, rng: random.Random) -> str:
    if part in KEPT:
        return part
    dots = part[: len(part) - len(part.lstrip("."))]
    ending = ENDING.search(part)
    return dots + coin_name(rng) + (ending[0] if ending else "")


def coin_name(rng: random.Random) -> str:
    """A name without an extension: one or several words in one of the usual styles, sometimes with a number."""
    words = [_word(rng) for _ in range(rng.choice((1, 1, 1, 2, 2)))]
    style = rng.random()
    if style < 0.7:
        name = rng.choice(("_", "_", "-", "-", "")).join(words)
    elif style < 0.95:  # Thumbs, ShopList, shopList, Shop_List
        first = words[0] if rng.random() < 0.3 and len(words) > 1 else words[0].capitalize()
        name = rng.choice(("", "", "_", "-")).join([first, *(word.capitalize() for word in words[1:])])
    else:
        name = "_".join(words).upper()
    return name + _number(rng)


def coin_extension(shape: str, rng: random.Random) -> str:
    """A real one that is rare, or two to four letters; of text where a shape is given."""
    if rng.random() < 0.75:
        return rng.choice(load_parts()["text_extensions" if shape or rng.random() < 0.5 else "other_extensions"])
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.choice((2, 3, 3, 3, 4))))


def _lower(rng: random.Random) -> str:
    return rng.choice(("-", "-", "_", "")).join(_word(rng) for _ in range(rng.choice((1, 1, 2)))) + _number(rng)


def _word(rng: random.Random) -> str:
    """A common word, or one that means nothing: both must be copied letter by letter."""
    if rng.random() < 0.75:
        return rng.choice(load_parts()["words"])
    parts = load_parts()
    syllables = (rng.choice(parts["onsets"]) + rng.choice(parts["vowels"]) for _ in range(rng.choice((1, 2, 2))))
    return "".join(syllables) + rng.choice(parts["codas"])


def _number(rng: random.Random) -> str:
    """Behind a name: nothing, mostly."""
    if rng.random() < 0.8:
        return ""
    low, high = rng.choice(((1, 10), (1, 10), (10, 100), (100, 1000), (1998, 2031)))
    return f"{rng.choice(('', '_', '-'))}{rng.randrange(low, high)}"
