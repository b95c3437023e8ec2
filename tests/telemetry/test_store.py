"""The store keeps what matters, within its size, whatever happens to the process that writes."""

from __future__ import annotations

import csv
import json
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from overseer_training.errors import DataError, UsageError
from overseer_training.telemetry.store import METRICS, ProcessUse, Sample, Store

NOW = 1_800_000_000.0
DAY = 86_400.0
WRITER = """
import itertools, pathlib, sys
from overseer_training.telemetry.store import METRICS, Sample, Store
store = Store(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
for number in itertools.count():
    store.add(Sample(float(number), dict.fromkeys(METRICS, 1.0)))
"""


def sample(moment: float, cpu: float = 10.0) -> Sample:
    return Sample(moment, {**dict.fromkeys(METRICS, 1.0 + moment % 7 * 0.3), "cpu_percent": cpu})


def large_sample(moment: float) -> Sample:
    """About 2 kB, so that a test need not write for long."""
    return Sample(moment, sample(moment).values, tuple(ProcessUse(pid, "x" * 180, 1.0, 1.0) for pid in range(10)))


def total_bytes(path: pathlib.Path) -> int:
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def test_old_samples_become_five_minute_means_and_older_ones_go(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "t.db") as store:
        for moment, cpu in ((NOW - 100 * DAY, 1), (NOW - 3 * DAY, 20), (NOW - 3 * DAY + 60, 40), (NOW - DAY, 50)):
            store.add(sample(moment, cpu))
        for _ in range(2):  # thinning again changes nothing
            store.thin(NOW)
            rows = [(row["time"], row["resolution"], row["cpu_percent"]) for row in store.rows()]
            assert rows == [(NOW - 3 * DAY, "mean", 30.0), (NOW - DAY, "full", 50.0)]


def test_the_files_stay_below_the_limit_and_the_newest_rows_stay(tmp_path: pathlib.Path) -> None:
    path, limit = tmp_path / "t.db", 2**20
    with Store(path, limit) as store:
        for number in range(1_200):
            store.add(large_sample(NOW + number))
            if number % 100 == 0:
                assert total_bytes(path) <= limit
        count, first, last = store.extent()
        assert total_bytes(path) <= limit
        assert last == NOW + 1_199 and first is not None and first > NOW
        assert count > 100


def test_a_smaller_limit_shrinks_what_is_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "t.db"
    with Store(path, 4 * 2**20) as store:
        for number in range(1_200):
            store.add(large_sample(NOW + number))
    assert total_bytes(path) > 2**20
    with Store(path, 2**20) as store:
        assert total_bytes(path) <= 2**20
        assert store.extent()[2] == NOW + 1_199


def test_killing_the_writer_leaves_a_whole_database(tmp_path: pathlib.Path) -> None:
    path, counts = tmp_path / "t.db", [0]
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline()
            time.sleep(0.15)
            writer.send_signal(signal.SIGKILL)
        connection = sqlite3.connect(path)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        connection.close()
        with Store(path) as store:
            counts.append(store.extent()[0])
    assert 0 < counts[1] <= counts[-1]


def test_a_window_has_means_of_steps_and_none_where_nothing_was_measured(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "t.db") as store:
        for offset, cpu in ((-3600, 10), (-3500, 30), (-10, 70)):
            store.add(sample(NOW + offset, cpu))
        window = store.window(NOW, hours=1)
    cpu_percent = window["series"]["cpu_percent"]
    assert (window["step_seconds"], len(cpu_percent)) == (300, 12)
    assert cpu_percent == [20.0, *[None] * 10, 70.0]
    assert window["series"]["network_mbit"][0] == pytest.approx(
        2 * (2 + 0.3 * ((NOW - 3600) % 7 + (NOW - 3500) % 7)) / 2, abs=1e-3
    )


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_export_has_every_row(tmp_path: pathlib.Path, ending: str) -> None:
    target = tmp_path / f"out.{ending}"
    with Store(tmp_path / "t.db") as store:
        store.add(sample(NOW, 12.5))
        store.add(Sample(NOW + 10, {"cpu_percent": 13.5}))
        assert store.export(target) == 2
    with target.open() as handle:
        rows = list(csv.DictReader(handle)) if ending == "csv" else [json.loads(line) for line in handle]
    assert [float(row["cpu_percent"]) for row in rows] == [12.5, 13.5]
    assert rows[1]["load_1m"] in ("", None)


def test_export_to_an_unknown_format_says_which_there_are(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "t.db") as store, pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
        store.export(tmp_path / "out.xlsx")


def test_processes_are_kept_by_name_and_number(tmp_path: pathlib.Path) -> None:
    uses = (ProcessUse(7, "nginx", 1.0, 2.0), ProcessUse(8, "python", 90.0, 1.0))
    with Store(tmp_path / "t.db") as store:
        store.add(Sample(NOW, {}, uses))
        assert [use.name for use in store.processes(NOW + 60)] == ["python", "nginx"]


def test_only_the_owner_can_read_it(tmp_path: pathlib.Path) -> None:
    with Store(tmp_path / "new" / "t.db"):
        modes = [(tmp_path / "new" / name).stat().st_mode & 0o077 for name in (".", "t.db", "t.db-wal")]
    assert modes == [0, 0, 0]


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but it is long enough" * 50, b"SQLite format 3\0" + b"x" * 4096]
)
def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "t.db").write_bytes(content)
    with pytest.raises(DataError, match="move it away") as caught:
        Store(tmp_path / "t.db")
    assert "\n" not in str(caught.value)
