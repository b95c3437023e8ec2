"""Every answer that a teacher gave, on disk before it is used: a run that is cut off has lost none, and the next one finds them.

One JSON object a line, appended and flushed to disk. A torn last line is cut off. One run at a time holds the file. It has the
texts of requests, so only its owner may read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import IO

from overseer_training.errors import DataError, UsageError
from overseer_training.files import sync_path
from overseer_training.teachers.protocol import JsonSchema, Message, Teacher


@dataclasses.dataclass(frozen=True)
class Entry:
    """One answer.

    Attributes:
        key: what was asked, as a hash (`key_of`).
        seconds: the teacher took.
        time: when it came, UTC, ISO 8601.
    """

    key: str
    teacher: str
    model: str
    assignment: str
    text: str
    prompt_tokens: int
    reply_tokens: int
    seconds: float
    time: str


class Ledger:
    """The answers in one file; use it through `open_ledger`."""

    def __init__(self, handle: IO[bytes], entries: dict[str, Entry]) -> None:
        self._handle = handle
        self._entries = entries

    def find(self, key: str) -> Entry | None:
        """The answer to what `key` stands for, if it was ever given."""
        return self._entries.get(key)

    def add(self, entry: Entry) -> None:
        """Write an answer; it is on disk when this returns."""
        self._handle.write(json.dumps(dataclasses.asdict(entry), ensure_ascii=False).encode() + b"\n")
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._entries[entry.key] = entry


def key_of(
    teacher: Teacher,
    messages: Sequence[Message],
    json_schema: JsonSchema | None,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> str:
    """SHA-256 of everything that decides an answer."""
    asked = [
        teacher.name,
        teacher.model,
        [dict(message) for message in messages],
        json_schema,
        max_tokens,
        temperature,
        seed,
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def open_ledger(path: pathlib.Path) -> Iterator[Ledger]:
    """The ledger at `path`, made where there is none, held until the block ends.

    Raises:
        UsageError: another run holds it.
        DataError: it is not a ledger.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run is writing {path}; wait for it, or give another folder") from error
        sync_path(path.parent)
        yield Ledger(handle, _read(handle, path))


def _read(handle: IO[bytes], path: pathlib.Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    kept = 0
    for number, line in enumerate(handle, start=1):
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError) as error:
            if line.endswith(b"\n"):
                raise DataError(f"{path} line {number} is no answer of a teacher; move the file away") from error
            handle.truncate(kept)  # the run that wrote it was cut off
            break
        if not line.endswith(b"\n"):
            handle.truncate(kept)
            break
        entries[entry.key] = entry
        kept += len(line)
    return entries
