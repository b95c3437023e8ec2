"""What every test may count on, however the suite was started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Signals are heard: nohup, and shells without job control, start programs that ignore some, and a run respects that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
