"""Rows that teachers wrote: an `Example` and where it came from; from and to files of JSON lines."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from overseer_training.errors import DataError
from overseer_training.files import write_text
from overseer_training.records import Example, Turn

SOURCE = "teacher"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Who wrote a row.

    Attributes:
        teachers: "kind and place: model" of each; several where they agreed.
        prompt_version: of `write.py`.
        time: when the (last) answer came, UTC, ISO 8601.
        assignment: what was asked for.
    """

    teachers: tuple[str, ...]
    prompt_version: str
    time: str
    assignment: str


@dataclasses.dataclass(frozen=True)
class TaughtRow:
    """A row that may teach."""

    example: Example
    provenance: Provenance

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self.example), "provenance": dataclasses.asdict(self.provenance)}


def write_rows(path: pathlib.Path, rows: Sequence[TaughtRow]) -> None:
    """Write `rows`, one a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row.as_dict(), ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: pathlib.Path) -> list[TaughtRow]:
    """The rows that `write_rows` wrote.

    Raises:
        DataError: the file cannot be read.
    """
    rows = []
    try:
        for line in path.read_text().split("\n")[:-1]:
            document = json.loads(line)
            provenance = document.pop("provenance")
            provenance["teachers"] = tuple(provenance["teachers"])
            document["turns"] = tuple(Turn(**turn) for turn in document["turns"])
            rows.append(TaughtRow(Example(**document), Provenance(**provenance)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no readable rows of teachers ({error}); make them again") from error
    return rows
