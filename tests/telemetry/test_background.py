"""A real collector in a real background process: exactly one, which ends when asked and is seen as gone when killed."""

from __future__ import annotations

import os
import pathlib
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator

import pytest

from overseer_training.errors import UsageError
from overseer_training.telemetry.background import DATABASE, export, running_pid, start, status, stop
from overseer_training.telemetry.collector import Sampler
from overseer_training.telemetry.store import METRICS


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    yield tmp_path / "telemetry"
    if running_pid(tmp_path / "telemetry") is not None:
        stop(tmp_path / "telemetry")


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "waited for 20 seconds"
        time.sleep(0.05)


def test_a_collector_starts_measures_exports_and_stops(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pid = start(folder, interval_seconds=0.05).pid
    assert pid is not None
    wait_until(lambda: status(folder).rows >= 3)
    stop(folder)
    assert status(folder).pid is None
    rows = status(folder).rows
    assert export(folder, tmp_path / "out.csv") == rows
    assert (folder / "collector.log").read_text() == ""
    assert not list(folder.glob(f"{DATABASE}-wal"))  # folded in: a clean end


def test_there_is_exactly_one(folder: pathlib.Path) -> None:
    pid = start(folder, interval_seconds=0.1).pid
    with pytest.raises(UsageError, match=rf"runs already .* \(process {pid}\)"):
        start(folder, interval_seconds=0.1)
    assert running_pid(folder) == pid


def test_after_kill_9_the_data_are_whole_and_a_new_one_starts(folder: pathlib.Path) -> None:
    killed = start(folder, interval_seconds=0.05).pid
    assert killed is not None
    wait_until(lambda: status(folder).rows >= 2)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: running_pid(folder) is None)
    with pytest.raises(UsageError, match="no collector runs"):
        stop(folder)
    connection = sqlite3.connect(folder / DATABASE)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.close()
    before = status(folder).rows
    assert start(folder, interval_seconds=0.05).pid != killed
    wait_until(lambda: status(folder).rows > before)


def test_a_start_that_fails_says_why_in_one_line(folder: pathlib.Path) -> None:
    folder.mkdir()
    (folder / DATABASE).write_bytes(b"no database, but long enough to be taken for one" * 50)
    with pytest.raises(UsageError, match="move it away") as caught:
        start(folder)
    assert "\n" not in str(caught.value)
    assert running_pid(folder) is None


def test_an_interval_that_cannot_be_honoured_is_refused(folder: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="interval"):
        start(folder, interval_seconds=0.0)


def test_a_sample_tells_what_this_machine_does() -> None:
    sampler = Sampler()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:  # work that must show
        sum(range(1000))
    sample = sampler.sample()
    assert set(sample.values) == set(METRICS)
    for name in ("cpu_percent", "memory_percent", "disk_percent"):
        value = sample.values[name]
        assert value is not None and 0 < value <= 100
    assert os.getpid() in {use.pid for use in sample.processes} or len(sample.processes) >= 5
    assert sampler.sample().processes == ()  # not looked at again so soon
