"""Ctrl-C, SIGTERM and SIGHUP ask for an end; the loop saves and leaves. A second Ctrl-C ends at once.

A signal that was ignored before stays ignored: that is what `nohup` asks for.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Notes the first signal while its block runs; `is_asked` turns True."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def is_asked(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """What shells expect: 128 and the signal's number."""
        return 128 + self.received if self.received is not None else 0

    @property
    def name(self) -> str:
        return self.received.name if self.received is not None else ""

    def __enter__(self) -> StopSignals:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
