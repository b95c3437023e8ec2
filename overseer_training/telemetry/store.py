"""Telemetry on disk: one SQLite file that stays whole after kill -9 and below a size that was set.

Takes samples, one a few seconds; gives them back as windows and as files. Full resolution is kept for 2 days and 5-minute means
for 90; when the file is still full, the oldest rows go first.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import pathlib
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from overseer_training.errors import DataError, UsageError
from overseer_training.files import staged_file

METRICS = (
    "cpu_percent",  # of all cores together
    "memory_percent",
    "swap_percent",
    "disk_percent",  # of the fullest writable file system
    "disk_read_mbyte",  # per second, as the next
    "disk_write_mbyte",
    "network_received_mbit",  # per second, as the next
    "network_sent_mbit",
    "load_1m",
)
SHOWN = (
    "cpu_percent",
    "memory_percent",
    "disk_percent",
    "load_1m",
    "network_mbit",
)  # of a window; as `simulate` has them
MEAN_SECONDS = 300
FULL_RESOLUTION_DAYS, MEANS_DAYS = 2, 90
DEFAULT_LIMIT_BYTES = 64 * 2**20  # chosen
LEAST_LIMIT_BYTES = 2**20
WAL_PAGES = 64  # the write-ahead log is folded in after so many
PAGE_BYTES = 4096
DAY_SECONDS = 86_400
FORMAT = 1
COLUMNS = ", ".join(METRICS)
SCHEMA = f"""
create table if not exists samples (time real primary key, {", ".join(f"{name} real" for name in METRICS)}) without rowid;
create table if not exists means (time real primary key, {", ".join(f"{name} real" for name in METRICS)}) without rowid;
create table if not exists processes (
    time real, pid integer, name text, cpu_percent real, memory_percent real, primary key (time, pid)) without rowid;
pragma user_version = {FORMAT};
"""


@dataclasses.dataclass(frozen=True)
class ProcessUse:
    """What one process used; its name only, since arguments may hold secrets.

    Attributes:
        cpu_percent: of one core, since the process was last looked at.
        memory_percent: resident, of the machine's memory.
    """

    pid: int
    name: str
    cpu_percent: float
    memory_percent: float


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was measured at `time` (seconds since 1970); a metric that this machine does not have is None."""

    time: float
    values: Mapping[str, float | None]
    processes: tuple[ProcessUse, ...] = ()


class Store:
    """The database at `path`, made if it is not there, readable by its owner only.

    Raises:
        DataError: it cannot be opened, or is no telemetry database.
    """

    def __init__(self, path: pathlib.Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        if limit_bytes < LEAST_LIMIT_BYTES:
            raise UsageError(f"telemetry needs a limit of at least {LEAST_LIMIT_BYTES:,} bytes, not {limit_bytes:,}")
        self.path = path
        self._most_pages = (limit_bytes // PAGE_BYTES) - 2 * WAL_PAGES
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
            path.touch(mode=stat.S_IRUSR | stat.S_IWUSR)
            self._connection = sqlite3.connect(path, timeout=10, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"the telemetry {path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise DataError(f"{path} is no telemetry database ({error}); move it away and start again") from error
        except DataError:
            self._connection.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def add(self, sample: Sample) -> None:
        """Store one sample; the oldest rows make room when the file has its full size.

        Raises:
            DataError: it cannot be written.
        """
        row = [sample.time, *(sample.values.get(name) for name in METRICS)]
        processes = [(sample.time, p.pid, p.name, p.cpu_percent, p.memory_percent) for p in sample.processes]
        for attempt in range(2):
            try:
                with self._transaction() as connection:
                    connection.execute(f"insert or replace into samples values (?{', ?' * len(METRICS)})", row)
                    connection.executemany("insert or replace into processes values (?, ?, ?, ?, ?)", processes)
                return
            except sqlite3.Error as error:
                if attempt or getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                    raise DataError(f"the telemetry {self.path} cannot be written: {error}") from error
                self._drop_oldest()

    def thin(self, now: float) -> None:
        """Turn what is older than 2 days into 5-minute means, and forget what is older than 90."""
        edge = (now - FULL_RESOLUTION_DAYS * DAY_SECONDS) // MEAN_SECONDS * MEAN_SECONDS
        step = f"cast(time / {MEAN_SECONDS} as integer) * {MEAN_SECONDS}"
        means = ", ".join(f"avg({name})" for name in METRICS)
        if self._used_pages() > 0.9 * self._most_pages:  # room for the means, and the pages of the deletion itself
            self._drop_oldest()
        try:
            with self._transaction() as connection:
                connection.execute(
                    f"insert or replace into means select {step}, {means} from samples where time < ? group by {step}",
                    (edge,),
                )
                connection.execute("delete from samples where time < ?", (edge,))
                connection.execute("delete from processes where time < ?", (edge,))
                connection.execute("delete from means where time < ?", (now - MEANS_DAYS * DAY_SECONDS,))
        except sqlite3.Error as error:
            raise DataError(f"the telemetry {self.path} cannot be thinned: {error}") from error

    def rows(self, start: float = 0.0, end: float = float("inf")) -> Iterator[dict[str, Any]]:
        """All rows with start <= time < end, oldest first: `time`, `resolution` (full or mean) and every metric."""
        query = (
            f"select time, 'mean', {COLUMNS} from means where time >= ? and time < ? union all "
            f"select time, 'full', {COLUMNS} from samples where time >= ? and time < ? order by 1"
        )
        try:
            for row in self._connection.execute(query, (start, end, start, end)):
                yield dict(zip(("time", "resolution", *METRICS), row, strict=True))
        except sqlite3.Error as error:
            raise DataError(f"the telemetry {self.path} cannot be read: {error}") from error

    def processes(self, at: float) -> list[ProcessUse]:
        """The processes that were noted last before `at`, those that used most of the processor first."""
        query = """select pid, name, cpu_percent, memory_percent from processes
            where time = (select max(time) from processes where time <= ?) order by cpu_percent desc"""
        return [ProcessUse(*row) for row in self._connection.execute(query, (at,))]

    def extent(self) -> tuple[int, float | None, float | None]:
        """(how many rows, the time of the first, the time of the last)."""
        query = "select count(*), min(time), max(time) from (select time from means union all select time from samples)"
        count, first, last = self._connection.execute(query).fetchone()
        return count, first, last

    def window(self, end: float, hours: float, step_seconds: int = MEAN_SECONDS) -> dict[str, Any]:
        """The last `hours` before `end` as a question's window: means of each step, None where nothing was measured."""
        steps = round(hours * 3600 / step_seconds)
        start = end - steps * step_seconds
        sums: dict[str, list[list[float]]] = {name: [[] for _ in range(steps)] for name in SHOWN}
        for row in self.rows(start, end):
            received, sent = row["network_received_mbit"], row["network_sent_mbit"]
            row["network_mbit"] = None if received is None or sent is None else received + sent
            place = min(int((row["time"] - start) / step_seconds), steps - 1)
            for name in SHOWN:
                if row[name] is not None:
                    sums[name][place].append(row[name])
        means = {name: [round(sum(v) / len(v), 4) if v else None for v in places] for name, places in sums.items()}
        return {"step_seconds": step_seconds, "series": means}

    def export(self, target: pathlib.Path, start: float = 0.0, end: float = float("inf")) -> int:
        """Write all rows between `start` and `end` to `target`, and say how many.

        Args:
            target: its ending says the format: .csv or .jsonl.

        Raises:
            UsageError: another ending, or a place that cannot be written.
        """
        if target.suffix not in (".csv", ".jsonl"):
            raise UsageError(f"telemetry is exported as .csv or .jsonl, not as {target.name!r}")
        count = 0
        try:
            with staged_file(target) as staging, staging.open("w", newline="", encoding="utf-8") as handle:
                writer = csv.DictWriter(handle, ("time", "resolution", *METRICS))
                if target.suffix == ".csv":
                    writer.writeheader()
                for row in self.rows(start, end):
                    if target.suffix == ".csv":
                        writer.writerow(row)
                    else:
                        handle.write(json.dumps(row) + "\n")
                    count += 1
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error}") from error
        return count

    def _prepare(self) -> None:
        connection = self._connection
        version = connection.execute("pragma user_version").fetchone()[0]
        if version not in (0, FORMAT):
            raise DataError(f"{self.path} was written by another version; move it away and start again")
        connection.execute(f"pragma page_size = {PAGE_BYTES}")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")  # whole after a crash; a power cut may lose the last samples
        connection.execute(f"pragma wal_autocheckpoint = {WAL_PAGES}")
        connection.execute(f"pragma journal_size_limit = {WAL_PAGES * PAGE_BYTES}")
        if version == 0:
            connection.executescript(SCHEMA)
        self._shrink()
        connection.execute(f"pragma max_page_count = {self._most_pages}")

    def _shrink(self) -> None:
        """Bring a file that was written with a larger limit below this one."""
        if self._page_count() <= self._most_pages:
            return
        while self._used_pages() > 0.9 * self._most_pages:
            self._drop_oldest()
        self._connection.execute("vacuum")

    def _drop_oldest(self) -> None:
        """Delete the oldest tenth of every table; its pages are used again."""
        with self._transaction() as connection:
            for table in ("processes", "means", "samples"):
                tenth = connection.execute(f"select (count(*) + 9) / 10 from {table}").fetchone()[0]
                oldest = f"select time from {table} order by time limit 1 offset ?"
                connection.execute(f"delete from {table} where time <= ({oldest})", (max(tenth - 1, 0),))

    def _page_count(self) -> int:
        return int(self._connection.execute("pragma page_count").fetchone()[0])

    def _used_pages(self) -> int:
        return self._page_count() - int(self._connection.execute("pragma freelist_count").fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("begin immediate")
        try:
            yield self._connection
            self._connection.execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise
