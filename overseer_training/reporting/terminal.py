"""The terminal of one run: pipeline stages, remarks, and the choice between a live display and plain lines.

Takes a text stream. On a real terminal, stages share a line with their result and training gets a live panel; elsewhere
(a file, a pipe, CI) everything is plain ASCII lines without control codes. Does not know what the stages do.

    terminal = Terminal(stages=7)
    with terminal.stage("data") as stage:
        stage.result = "9,600 examples"       # [1/7] data ...  done in 12 s, 9,600 examples
    with terminal.stage("training"), terminal.training() as display:
        train(plan, listener=display)
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO, cast

from rich.console import Console
from rich.text import Text

from overseer_training.reporting.progress import LineProgress, LiveProgress
from overseer_training.reporting.units import as_duration


@dataclasses.dataclass
class Stage:
    """A stage that runs; `result` is added to its line when it is done."""

    label: str
    result: str = ""


class Terminal:
    """Writes to `stream` (standard output); numbers the stages `[1/stages]`, `[2/stages]`, …"""

    def __init__(self, stages: int = 1, stream: TextIO | None = None) -> None:
        self._stream = cast(TextIO, _LastingStream(sys.stdout if stream is None else stream))
        self.console = Console(file=self._stream, highlight=False)
        self._stages = stages
        self._begun = 0
        self._open: Stage | None = None  # its line still waits for a result, with nothing printed after it

    @property
    def is_live(self) -> bool:
        """A terminal that can move its cursor and shows more than ASCII."""
        is_unicode = (getattr(self._stream, "encoding", None) or "").lower().startswith("utf")
        return self.console.is_terminal and not self.console.is_dumb_terminal and is_unicode

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Prints `[3/7] name …` and, when the block ends, how it ended and how long it took."""
        stage = Stage(self._next_label(name))
        started = time.monotonic()
        self._begin(stage)
        try:
            yield stage
        except KeyboardInterrupt:
            self._finish(stage, f"interrupted after {as_duration(time.monotonic() - started)}", "yellow")
            raise
        except BaseException:
            self._finish(stage, f"failed after {as_duration(time.monotonic() - started)}", "bold red")
            raise
        took = f"done in {as_duration(time.monotonic() - started)}"
        self._finish(stage, f"{took}, {stage.result}" if stage.result else took, "green")

    def skip_stage(self, name: str, reason: str) -> None:
        """Prints `[5/7] name …  skipped: reason`."""
        stage = Stage(self._next_label(name))
        self._begin(stage)
        self._finish(stage, f"skipped: {reason}", "dim")

    def say(self, text: str, style: str = "") -> None:
        """One remark on its own line."""
        self._leave_open_line()
        self._print(text, style)

    def training(self) -> LiveProgress | LineProgress:
        """A listener for the engine, and a context manager that restores the terminal whatever happens."""
        if self.is_live:
            self._leave_open_line()
            return LiveProgress(self.console)
        return LineProgress(self._print_plain)

    def _next_label(self, name: str) -> str:
        self._begun += 1
        return f"[{self._begun}/{self._stages}] {name}"

    def _begin(self, stage: Stage) -> None:
        self._leave_open_line()
        if self.is_live:
            self._open = stage
            self.console.print(Text(f"{stage.label} …"), end="")
            self._stream.flush()
        else:
            self._print_plain(f"{stage.label} ...")

    def _finish(self, stage: Stage, outcome: str, style: str) -> None:
        if not self.is_live:
            self._print_plain(f"{stage.label} ...  {outcome}")
        elif self._open is stage:
            self._open = None
            self.console.print(Text(f"  {outcome}", style=style))
        else:
            self._leave_open_line()
            self.console.print(Text(f"{stage.label} …").append(f"  {outcome}", style=style))

    def _leave_open_line(self) -> None:
        if self._open is not None:
            self._open = None
            self.console.print()

    def _print(self, text: str, style: str) -> None:
        if self.is_live:
            self.console.print(Text(text, style=style))
        else:
            self._print_plain(text)

    def _print_plain(self, text: str) -> None:
        self._stream.write(as_plain_ascii(text) + "\n")
        self._stream.flush()


class _LastingStream:
    """A text stream that goes silent when nobody reads it any more: work goes on when a terminal is closed or a pipe ends."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        silence = open(os.devnull, "w")
        if self._stream is sys.stdout:
            sys.stdout = silence  # Python flushes it once more at its end
        self._stream = silence

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def as_plain_ascii(text: str) -> str:
    """`text` for logs and pipes: one line, typographic signs spelled in ASCII, no control codes."""
    for sign, spelled in (("…", "..."), ("–", "-"), ("—", "-"), ("−", "-"), ("→", "->"), ("·", "-"), ("×", "x")):
        text = text.replace(sign, spelled)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode("ascii")
    return "".join(character if character.isprintable() else " " for character in plain)
