"""Rows that say what their owner does: kept encrypted, with their places in the files of a run.

Takes rows; gives lines with a reference in place of each sensitive row, and the encrypted file that they refer to.
"""

from __future__ import annotations

import getpass
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from overseer_training.guards.encryption import read_lines, write_lines
from overseer_training.guards.keys import Keys, open_keys
from overseer_training.guards.resources import SENSITIVITIES
from overseer_training.records import Example

SET_NAME = "rows"
SIMULATED = "telemetry"  # of machines that are nobody's; rows about this one have `telemetry/this-machine`


class Sealer:
    """Collects the sensitive rows of a run; every different row is kept once."""

    def __init__(self, to_record: Callable[[Example], dict[str, Any]]) -> None:
        self._to_record = to_record
        self._numbers: dict[str, int] = {}
        self._lines: list[str] = []

    def line_of(self, example: Example) -> str:
        """The line for a file that anybody may read."""
        line = json.dumps(self._to_record(example), ensure_ascii=False)
        source = example.source.partition("/")[0]
        if SENSITIVITIES.get(source) != "confidential" or example.source == SIMULATED:
            return line
        number = self._numbers.setdefault(line, len(self._lines))
        if number == len(self._lines):
            self._lines.append(line)
        return json.dumps({"sealed": number})

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The row that a line refers to."""
        row: dict[str, Any] = json.loads(self._lines[number])
        return row

    def write(self, path: pathlib.Path) -> bool:
        """Encrypt what was collected; False where there was nothing.

        Raises:
            NotAvailableError: there is neither keyring nor passphrase.
        """
        if self._lines:
            write_lines(path, self._lines, SET_NAME, owners_keys())
        return bool(self._lines)


def read_sealed(path: pathlib.Path) -> Sequence[dict[str, Any]]:
    """The rows of `path` by number.

    Raises:
        DataError: the file was changed, or the keys are not its own.
        NotAvailableError: there is neither keyring nor passphrase.
    """
    return [json.loads(line) for line in read_lines(path, SET_NAME, owners_keys())]


def owners_keys() -> Keys:
    """The keys of this user; a person at a terminal may be asked for the passphrase."""
    return open_keys(ask=getpass.getpass if sys.stdin.isatty() else None)
