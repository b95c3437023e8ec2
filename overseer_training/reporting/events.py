"""What training says about itself, and the file that keeps it.

The engine calls one `Listener` with dictionaries; each has `kind`, `step` and `time` (seconds of training so far).
Kinds: `start`, `train` (one optimizer step), `validation`, `notice`, `end`; their fields are in the room's README.
`MetricsFile` keeps them as JSON lines, `read_metrics` reads them back. Nothing here draws or judges.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from overseer_training.errors import DataError, TrainingError
from overseer_training.files import staged_file

Listener = Callable[[Mapping[str, Any]], None]


def broadcast(*listeners: Listener) -> Listener:
    """One listener that hands each event to all of them, in order."""

    def call_all(event: Mapping[str, Any]) -> None:
        for listener in listeners:
            listener(event)

    return call_all


def resumed_step(start: Mapping[str, Any]) -> int | None:
    """The step that a `start` event goes on from; None for a fresh start.

    The checkpoint's name (`step-000500`) counts as well, because an engine may say `"step": 0` for every start.
    """
    if start.get("resumed_from") is None:
        return None
    named = re.search(r"step-(\d+)$", str(start["resumed_from"]).rstrip("/\\"))
    return max(int(start["step"]), int(named.group(1)) if named else 0)


class MetricsFile:
    """Listener that appends every event to `path`, one JSON object a line.

    The file is opened for each line: nothing is buffered when the process is killed, and nothing is left open. When a
    run is resumed, lines past the resumed step are dropped first, because these steps are about to happen again.

    Raises:
        TrainingError: the file cannot be written (disk full, directory gone).
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __call__(self, event: Mapping[str, Any]) -> None:
        line = json.dumps(_without_nan(event), ensure_ascii=False, default=os.fspath) + "\n"
        try:
            if event["kind"] == "start":
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._drop_lines_past(resumed_step(event))
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as exc:
            raise TrainingError(
                f"cannot write metrics to {self.path}: {exc.strerror}. Make room or fix the permissions, then resume."
            ) from exc

    def _drop_lines_past(self, step: int | None) -> None:
        """Also drops a torn line, which the next append would otherwise join."""
        if not self.path.exists():
            return
        before = self.path.read_bytes()
        kept = b"".join(line for line in before.splitlines(keepends=True) if _is_kept(line, step))
        if kept != before:
            with staged_file(self.path) as staging:
                staging.write_bytes(kept)


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """All events of `path`, oldest first; none when it does not exist. A torn last line is left out.

    Raises:
        DataError: another line is not a JSON object.
    """
    return read_json_lines(path) if path.exists() else []


def read_json_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file whose last line may be torn by a kill.

    Raises:
        DataError: a line other than the last is not a JSON object.
    """
    lines = path.read_bytes().split(b"\n")
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as exc:  # also UnicodeDecodeError: a line may be torn inside a character
            if number == len(lines):
                break
            raise DataError(f"{path}:{number} is not JSON; remove this line to read the rest.") from exc
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number} is not a JSON object; remove this line to read the rest.")
        objects.append(value)
    return objects


def _is_kept(line: bytes, step: int | None) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return step is None or (isinstance(event, dict) and event.get("step", 0) <= step)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null, which readers treat as not measured."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
