"""A file of the user's: requests and commands as JSON lines or CSV.

Takes a path; gives `Example`s. The columns are found by their names (`QUERY_NAMES`, `COMMAND_NAMES`), so that files from elsewhere work
as they are. Rows that are no pair are counted, not guessed.
"""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Iterator
from typing import Any

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
LONGEST_CHARACTERS = 2000  # of a request or a command; longer ones are no one-line commands


def read_pairs(path: pathlib.Path) -> tuple[list[Example], list[str]]:
    """(rows, ids of what was left out because it is no pair of texts).

    Raises:
        DataError: the file cannot be read, or none of its columns is known.
    """
    rows: list[Example] = []
    left_out: list[str] = []
    names: tuple[str, str] | None = None
    try:
        for number, record in enumerate(_records(path)):
            names = names or (_find_name(record, QUERY_NAMES, path), _find_name(record, COMMAND_NAMES, path))
            query, command = (_as_text(record.get(name)) for name in names)
            if not query or not command or "\n" in command or max(len(query), len(command)) > LONGEST_CHARACTERS:
                left_out.append(f"{path.name}/{number}")
                continue
            turns = (Turn("user", query), Turn("assistant", command))
            rows.append(
                Example(f"{path.name}/{number}", f"{path.name}/{command}", "command", turns, "linux", path.name)
            )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; it must be JSON lines or CSV in UTF-8") from error
    if not rows:
        raise DataError(f"{path} has no pair of a request and a one-line command")
    return rows, left_out


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
    return value.strip() if isinstance(value, str) else ""
