"""Reads files of the packaged corpus: YAML lists of mappings, every problem in one message."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from overseer_training.errors import DataError

Check = Callable[[dict[str, Any]], list[str]]


def read_entries(folder: pathlib.Path, name_key: str, check: Check) -> list[tuple[dict[str, Any], str]]:
    """(entry, file name) of every `*.yaml` in `folder` (or of that file), in the order of file names.

    Args:
        name_key: the key that names an entry; names are unique in the folder.
        check: what is wrong with an entry.

    Raises:
        DataError: a file is not valid; the message lists every problem.
    """
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.yaml"))
    if not paths:
        raise DataError(f"no corpus files in {folder}; a checkout has them in corpus/{folder.name}")
    found: list[tuple[dict[str, Any], str]] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for path in paths:
        try:
            # The base loader keeps values as they are written: 0644, yes, 1.10.
            entries = yaml.load(path.read_text(), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
            problems.append(f"{path.name}: {' '.join(str(error).split())}")
            continue
        if not isinstance(entries, list):
            problems.append(f"{path.name}: is not a list")
            continue
        for number, entry in enumerate(entries, start=1):
            name = entry.get(name_key) if isinstance(entry, dict) else None
            where = f"{path.name}: {name or f'entry {number}'}"
            wrong = list(_name_problems(entry, name_key, name, seen)) or check(entry)
            problems += [f"{where}: {problem}" for problem in wrong]
            if not wrong:
                seen[str(name)] = path.name
                found.append((entry, path.name))
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DataError(f"the corpus has {count}: " + "; ".join(problems))
    return found


def text_problems(entry: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Which of the keys `names` do not hold a text."""
    return [f"{name!r} must be a text" for name in names if not isinstance(entry.get(name), str) or not entry[name]]


def list_problems(entry: dict[str, Any], name: str, least: int = 0) -> list[str]:
    """What is wrong with a list of texts of which no two are alike."""
    values = entry.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        return [f"{name!r} must be a list of texts (quote items that hold ': ' or start with a special character)"]
    folded = [" ".join(value.lower().split()) for value in values]
    problems = [f"{name}: twice {value!r}" for value in sorted({value for value in folded if folded.count(value) > 1})]
    return problems + ([f"{len(values)} {name}; {least} are the least"] if len(values) < least else [])


def _name_problems(entry: Any, key: str, name: Any, seen: dict[str, str]) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield "is not a mapping"
    elif not isinstance(name, str) or not name:
        yield f"{key!r} must be a text"
    elif name in seen:
        yield f"the name is taken in {seen[name]}"
