"""A file of the user's: requests and commands as JSON lines or CSV.

Takes a path; gives `Example`s one by one, so that a file may be of any size. The columns are found by their names (`QUERY_NAMES`,
`COMMAND_NAMES`), so that files from elsewhere work as they are. Rows that are no pair are counted, not guessed.
"""

from __future__ import annotations

import csv
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from overseer_training.errors import DataError
from overseer_training.records import Example, Turn

QUERY_NAMES = (
    "query",
    "nl",
    "request",
    "prompt",
    "instruction",
    "input",
    "question",
    "description",
    "invocation",
    "user_input",
)
COMMAND_NAMES = ("command", "cmd", "bash", "answer", "output", "response", "completion", "code")
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
LONGEST_CHARACTERS = 2000  # of a request or a command; longer ones are no one-line commands


class NoPair(NamedTuple):
    """What stands in for a row of a file that is no pair of texts."""

    id: str


def read_pairs(path: pathlib.Path) -> Iterator[Example | NoPair]:
    """The rows of `path` in their order.

    Raises:
        DataError: the file cannot be read, or none of its columns is known; what came before it may have been used already.
    """
    found = False
    names: tuple[str, str] | None = None
    try:
        for number, record in enumerate(_records(path)):
            names = names or (_find_name(record, QUERY_NAMES, path), _find_name(record, COMMAND_NAMES, path))
            query, command = (_as_text(record.get(name)) for name in names)
            if not query or not command or "\n" in command or max(len(query), len(command)) > LONGEST_CHARACTERS:
                yield NoPair(f"{path.name}/{number}")
                continue
            found = True
            turns = (Turn("user", query), Turn("assistant", command))
            yield Example(f"{path.name}/{number}", f"{path.name}/{command}", "command", turns, "linux", path.name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; it must be JSON lines or CSV in UTF-8") from error
    if not found:
        raise DataError(f"{path} has no pair of a request and a one-line command")


def count_pairs(rows: Iterable[Example | NoPair]) -> tuple[int, int]:
    """(how many are pairs, how many are none)."""
    pairs = others = 0
    for row in rows:
        if isinstance(row, NoPair):
            others += 1
        else:
            pairs += 1
    return pairs, others


def _records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        if path.suffix.lower() == ".csv":
            yield from csv.DictReader(file)
            return
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from None
                yield record if isinstance(record, dict) else {}


def _find_name(record: dict[str, Any], names: tuple[str, ...], path: pathlib.Path) -> str:
    known = {str(name).strip().lower(): name for name in record}
    for name in names:
        if name in known:
            return str(known[name])
    raise DataError(
        f"{path} has the columns {', '.join(map(str, record)) or 'none'}; one of {', '.join(names)} is needed"
    )


def _as_text(value: Any) -> str:
    """The text without blanks around it; empty where it is none, or has half a character (`"\\ud83d"` in JSON)."""
    return value.strip() if isinstance(value, str) and not HALF_CHARACTER.search(value) else ""
