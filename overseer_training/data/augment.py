"""Other names, numbers and paths for the rows of a family, so that a model learns to copy what a request names.

Takes families and inventories; gives bindings. A re-drawn value keeps what the old one's command relied on: a file keeps its
extension, two slots never get the same value, and values that only hang together (sizes and their words) never change.
"""

from __future__ import annotations

import functools
import os
import pathlib
import random
import re

import yaml

from overseer_training.data.sources.corpus import CORPUS, Family, fill, is_redrawn
from overseer_training.errors import DataError


@functools.cache
def load_inventories(path: pathlib.Path = CORPUS / "inventories.yaml") -> dict[str, tuple[str, ...]]:
    """Slot name -> values.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        document = yaml.safe_load(path.read_text())
        return {name: tuple(str(value) for value in values) for name, values in document.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise DataError(f"{path} is not a readable inventory: {error}") from error


def redraw(family: Family, binding: dict[str, str], rng: random.Random) -> dict[str, str]:
    """`binding` with new values in the slots that may vary; the same object when none may.

    A slot keeps its value when another value of the binding holds or repeats it.
    """
    inventories = load_inventories()
    drawn = dict(binding)
    for name, old in binding.items():
        kind = name.rstrip("0123456789")
        if not is_redrawn(name) or name in family.fixed or kind not in inventories:
            continue
        others = [value for other, value in binding.items() if other != name]
        if any(_are_tangled(old, other) for other in others):
            continue
        drawn[name] = _draw(kind, old, {*drawn.values(), *binding.values()} - {old}, inventories[kind], rng)
    return drawn if drawn != binding and _is_safe(family, drawn) else binding


def _draw(kind: str, old: str, taken: set[str], values: tuple[str, ...], rng: random.Random) -> str:
    for _ in range(20):
        value = rng.choice(values)
        if kind == "file":
            stem, extension = os.path.splitext(old)
            if not stem or "*" in old:
                return old
            value += extension
        if kind == "dir" and old.startswith("/") and not value.startswith("/") and rng.random() < 0.8:
            continue  # absolute paths mostly stay absolute
        if value not in taken and value != old:
            return value
    return old


def _are_tangled(left: str, right: str) -> bool:
    return len(min(left, right, key=len)) > 2 and (left in right or right in left)


def _is_safe(family: Family, binding: dict[str, str]) -> bool:
    """Whether unquoted values are still single words in the command."""
    command = fill(family.command, binding)
    return not any(
        re.search(r"\s", value) for name, value in binding.items() if is_redrawn(name) and f"{{{name}}}" in command
    ) or ('"' in family.command or "'" in family.command)
