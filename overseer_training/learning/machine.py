"""What this machine did, as a run learns from it: questions about its telemetry, and those that are held back, encrypted on disk.

Takes what the collector stored; gives rows of the skill `prediction`, and tasks of the newest part to be measured with.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from overseer_training.data.sealed import SET_NAME, owners_keys
from overseer_training.guards.encryption import read_lines, write_lines
from overseer_training.records import Example, Platform
from overseer_training.telemetry.own import held_back_tasks, own_rows, split_newest
from overseer_training.telemetry.stored import Stored

HELD_BACK = "machine.tasks"  # beside the rows of a run


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rows about what came before, tasks about the newest fifth of the time that was recorded."""

    train: tuple[Example, ...] = ()
    held_back: tuple[dict[str, Any], ...] = ()


def questions(stored: Stored | None, rows: int, share: float, seed: int, platform: Platform) -> Machine:
    """Questions about this machine; none where too little was recorded.

    Args:
        rows: of the owner's that they go with.
        share: of both together that the questions are.
    """
    number = round(share / (1 - share) * rows)
    parts = split_newest(stored.as_recording()) if stored is not None and len(stored) and number else None
    if parts is None:
        return Machine()
    older, newest = parts
    return Machine(tuple(own_rows(older, number, seed, platform)), tuple(held_back_tasks(newest, seed)))


def write_held_back(data: pathlib.Path, tasks: Sequence[dict[str, Any]]) -> None:
    """Encrypt the tasks of a run to its folder of rows, where there are any.

    Raises:
        NotAvailableError: there is neither keyring nor passphrase.
    """
    if tasks:
        write_lines(data / HELD_BACK, map(json.dumps, tasks), SET_NAME, owners_keys())


def read_held_back(data: pathlib.Path) -> list[dict[str, Any]]:
    """What `write_held_back` wrote; empty where it wrote nothing.

    Raises:
        DataError: the file was changed, or the keys are not its own.
        NotAvailableError: there is neither keyring nor passphrase.
    """
    path = data / HELD_BACK
    return [json.loads(line) for line in read_lines(path, SET_NAME, owners_keys())] if path.exists() else []
