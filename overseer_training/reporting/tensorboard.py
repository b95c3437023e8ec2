"""TensorBoard event files, written without torch or TensorFlow.

Takes training events and gives an event file in a directory that `tensorboard --logdir` reads. Imports the package
`tensorboard` only when a writer is made (0.7 s). Source: `tensorboard.summary.writer.event_file_writer`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from overseer_training.errors import NotAvailableError
from overseer_training.reporting.events import resumed_step
from overseer_training.reporting.units import as_number

_NUMBERS = itertools.count()  # writers of this process, so that each has a file of its own
TAGS: dict[str, dict[str, str]] = {
    "train": {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "grad_norm": "train/grad_norm",
        "micro_batch_size": "train/micro_batch_size",
        "tokens_per_second": "speed/tokens_per_second",
        "examples_per_second": "speed/examples_per_second",
        "ram_fraction": "memory/ram_fraction",
        "process_rss_bytes": "memory/process_rss_bytes",
        "device_memory_bytes": "memory/device_memory_bytes",
    },
    "validation": {"loss": "validation/loss", "token_accuracy": "validation/token_accuracy"},
    "end": {
        "peak_rss_bytes": "memory/peak_rss_bytes",
        "peak_ram_fraction": "memory/peak_ram_fraction",
        "best_validation_loss": "validation/best_loss",
    },
}


class TensorBoardWriter:
    """Listener that writes the scalars of `TAGS`; every start tells readers to forget the steps that it repeats.

    Raises:
        NotAvailableError: the package `tensorboard` is not installed.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]
            from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
        except ImportError as exc:
            raise NotAvailableError(
                f"TensorBoard files were asked for, but a part is missing: {exc}. Try: pip install tensorboard"
            ) from exc
        directory.mkdir(parents=True, exist_ok=True)
        self._events, self._summaries = event_pb2, summary_pb2
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        self._file = (directory / name).open("ab")
        self._writer: Any = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "start":
            self._mark_start(resumed_step(event))
        scalars = {
            tag: number
            for field, tag in TAGS.get(event["kind"], {}).items()
            if (number := as_number(event.get(field))) is not None
        }
        if scalars:
            values = [self._summaries.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            self._add(step=event["step"], summary=self._summaries.Summary(value=values))
        if event["kind"] in ("start", "validation", "end"):
            with contextlib.suppress(OSError):
                self._file.flush()

    def close(self) -> None:
        """Writes what is buffered; may be called twice."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mark_start(self, step: int | None) -> None:
        # Readers drop what they hold from this step on (EventAccumulator, purge_orphaned_data).
        log = self._events.SessionLog(status=self._events.SessionLog.START)
        self._add(step=0 if step is None else step + 1, session_log=log)

    def _add(self, **fields: Any) -> None:
        with contextlib.suppress(OSError):  # these files are a view: a full disk is told by what matters, the checkpoint
            self._writer.write(self._events.Event(wall_time=time.time(), **fields).SerializeToString())
