"""The collector as a background process: exactly one for a folder, started, asked after and stopped from anywhere.

Takes a folder; gives a process that holds `lock` in it for as long as it lives, so that a process that was killed is seen as
gone, whatever its process id is used for next. It starts no service at boot: that is the owner's to decide.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import IO

from overseer_training.errors import OverseerError, UsageError
from overseer_training.telemetry.collector import DEFAULT_INTERVAL_SECONDS, collect
from overseer_training.telemetry.store import DEFAULT_LIMIT_BYTES, Store

DATABASE, LOCK, LOG = "telemetry.db", "lock", "collector.log"
LEAST_INTERVAL_SECONDS, MOST_INTERVAL_SECONDS = 0.05, 300.0
STOP_TIMEOUT_SECONDS = 20.0
PACKAGE_PARENT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Status:
    """What there is in a folder.

    Attributes:
        pid: of the collector; None when none runs.
        rows: how many are stored, of both resolutions.
        first, last: times of the oldest and newest row, seconds since 1970.
        size_bytes: of the database with its write-ahead log.
    """

    pid: int | None
    rows: int = 0
    first: float | None = None
    last: float | None = None
    size_bytes: int = 0


def default_folder() -> pathlib.Path:
    """Where this user's telemetry is kept."""
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share")
    return data / "overseer-training" / "telemetry"


def start(
    folder: pathlib.Path,
    interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> Status:
    """Start the collector of `folder`; it outlives the caller.

    Raises:
        UsageError: one runs already, or it cannot start.
    """
    if not LEAST_INTERVAL_SECONDS <= interval_seconds <= MOST_INTERVAL_SECONDS:
        raise UsageError(
            f"the interval must be {LEAST_INTERVAL_SECONDS} to {MOST_INTERVAL_SECONDS:.0f} seconds, not {interval_seconds}"
        )
    command = [sys.executable, "-m", __spec__.name, str(folder.absolute()), str(interval_seconds), str(limit_bytes)]
    launched = subprocess.run(
        command, cwd=PACKAGE_PARENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if launched.returncode:
        lines = launched.stderr.strip().splitlines() or [f"exit code {launched.returncode}"]
        raise UsageError(lines[-1])
    return status(folder)


def stop(folder: pathlib.Path) -> None:
    """Ask the collector of `folder` to end, and wait until it has.

    Raises:
        UsageError: none runs, or it does not end.
    """
    pid = running_pid(folder)
    if pid is None:
        raise UsageError(f"no collector runs for {folder}; `start` starts one")
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError as error:
        raise UsageError(f"the collector of {folder} (process {pid}) belongs to another user") from error
    except ProcessLookupError:
        return
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while running_pid(folder) == pid:
        if time.monotonic() > deadline:
            raise UsageError(f"the collector of {folder} (process {pid}) did not end in {STOP_TIMEOUT_SECONDS:.0f} s")
        time.sleep(0.02)


def status(folder: pathlib.Path) -> Status:
    """Whether a collector runs, and what is stored.

    Raises:
        DataError: the database is damaged.
    """
    database = folder / DATABASE
    if not database.is_file():
        return Status(running_pid(folder))
    size = sum(path.stat().st_size for path in folder.glob(f"{DATABASE}*"))
    with Store(database, max(DEFAULT_LIMIT_BYTES, 2 * size)) as store:
        return Status(running_pid(folder), *store.extent(), size)


def export(folder: pathlib.Path, target: pathlib.Path) -> int:
    """Write all that is stored to `target` (.csv or .jsonl), and say how many rows.

    Raises:
        UsageError: there is no telemetry, or `target` cannot be written.
    """
    database = folder / DATABASE
    if not database.is_file():
        raise UsageError(f"there is no telemetry in {folder}; `start` starts collecting")
    with Store(database, max(DEFAULT_LIMIT_BYTES, 2 * database.stat().st_size)) as store:
        return store.export(target)


def running_pid(folder: pathlib.Path) -> int | None:
    """The process id of the collector that holds the lock of `folder`, or None."""
    try:
        handle = (folder / LOCK).open("r")
    except OSError:
        return None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = handle.read().strip()
            return int(text) if text.isdigit() else None
    return None


def _take_lock(folder: pathlib.Path) -> IO[str]:
    """The lock of `folder`, exclusive, until the process ends."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = (folder / LOCK).open("a+")
    for _ in range(20):  # whoever asks for the status holds it for an instant
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            time.sleep(0.05)
    handle.close()
    raise UsageError(f"a collector runs already for {folder} (process {running_pid(folder)}); `stop` ends it")


def _launch(folder: pathlib.Path, interval_seconds: float, limit_bytes: int) -> None:
    """Check all that can go wrong, then leave a process behind that collects.

    The lock belongs to the open file, so that the child keeps it when this process ends.
    """
    lock = _take_lock(folder)
    Store(folder / DATABASE, limit_bytes).close()
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    child = os.fork()
    if child:
        lock.truncate(0)
        lock.write(str(child))
        lock.flush()
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.dup2(log, 1)
    os.dup2(log, 2)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Store(folder / DATABASE, limit_bytes) as store:
        collect(store, interval_seconds, stopping)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Collects telemetry; started by start().")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("interval_seconds", type=float)
    parser.add_argument("limit_bytes", type=int)
    arguments = parser.parse_args()
    try:
        _launch(arguments.folder, arguments.interval_seconds, arguments.limit_bytes)
    except (OverseerError, OSError) as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
