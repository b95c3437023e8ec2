"""Tables as people and tools write them become recordings; garbage becomes one clear line."""

from __future__ import annotations

import datetime
import json
import pathlib
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer_training.errors import DataError
from overseer_training.telemetry.importers import read_csv, with_labels

START = datetime.datetime(2024, 3, 13, 10, 0, tzinfo=datetime.UTC)
MOMENTS = [START + datetime.timedelta(minutes=5 * number) for number in range(40)]


def table(path: pathlib.Path, lines: list[str]) -> pathlib.Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00:00", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M:%S",
     "%d/%m/%Y %H:%M", "%Y/%m/%d %H:%M:%S", "%d/%b/%Y:%H:%M:%S +0000"],
)  # fmt: skip
def test_dates_are_read_in_common_formats(tmp_path: pathlib.Path, form: str) -> None:
    rows = [f"{moment.strftime(form)},{number}" for number, moment in enumerate(MOMENTS)]
    [found] = read_csv(table(tmp_path / "a.csv", ["timestamp,value", *rows]))
    assert (found.name, found.start, found.step_seconds, len(found)) == ("a", START.timestamp(), 300, 40)
    assert found.series["value"].tolist() == list(range(40))


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("header", [["Timestamp [ms];\tCPU usage [%]"], []])
def test_epochs_are_read_in_every_unit_with_and_without_a_header(
    tmp_path: pathlib.Path, factor: int, header: list[str]
) -> None:
    rows = [f"{int(moment.timestamp()) * factor};\t{number},5" for number, moment in enumerate(MOMENTS)]
    [found] = read_csv(table(tmp_path / "a.csv", header + rows))
    assert (found.start, found.step_seconds) == (START.timestamp(), 300)
    assert next(iter(found.series.values())).tolist() == [number + 0.5 for number in range(40)]


def test_unsorted_rows_duplicates_and_gaps_become_a_regular_grid(tmp_path: pathlib.Path) -> None:
    rows = [
        f"{moment:%Y-%m-%d %H:%M:%S},{number},{number}%"
        for number, moment in enumerate(MOMENTS)
        if number not in (7, 8)
    ]
    rows.append(f"{MOMENTS[3]:%Y-%m-%d %H:%M:%S},13,NaN")
    random.Random(0).shuffle(rows)
    [found] = read_csv(table(tmp_path / "a.csv", ["date,a,b", *rows]))
    assert len(found) == 40
    assert found.series["a"][3] == 8.0  # the mean of 3 and 13
    assert found.series["b"][3] == 3.0
    assert np.flatnonzero(np.isnan(found.series["a"])).tolist() == [7, 8]


def test_a_text_column_that_repeats_tells_machines_apart(tmp_path: pathlib.Path) -> None:
    rows = [f"{m:%Y-%m-%d %H:%M:%S},{host},{k}" for m in MOMENTS for k, host in enumerate(("web", "db"))]
    found = read_csv(table(tmp_path / "a.csv", ["time,host,cpu", *rows]))
    assert [(one.name, one.series["cpu"].mean()) for one in found] == [("a/web", 0.0), ("a/db", 1.0)]


def test_samples_a_minute_apart_become_means_of_five(tmp_path: pathlib.Path) -> None:
    rows = [f"{int(START.timestamp()) + 60 * number},{number}" for number in range(100)]
    [found] = read_csv(table(tmp_path / "a.csv", ["epoch,v", *rows]))
    assert found.step_seconds == 300
    assert found.series["v"][:2].tolist() == [2.0, 7.0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02" * 100, "empty, or not text"),
        (b"\xff\xfe\x00garbage" * 50, "cannot be read"),
        (b"hello world\n" * 50, "no column of times"),
        (b"a,b\n" + b"1,2\n" * 50, "no column of times"),
        (b"time,value\n" + b"2024-01-01 00:00:00,x y z\n" * 50, "no column of numbers"),
        (b"time,value\n" + b"2024-01-01 00:00:00,1\n" * 50, "same time"),
        (b"time,value\n2024-01-01 00:00:00,1\n", "10 rows"),
        (b"time,value\n" + b"".join(b"%d,1\n" % (10**9 + 300 * n) for n in range(20)) + b"4000000000,1\n", "spans"),
    ],
)
def test_garbage_is_one_clear_line(tmp_path: pathlib.Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_csv(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.text('0123456789,;.:-\n "e%', max_size=400).map(str.encode)))
def test_no_content_gives_another_error_than_ours(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"time,value\n" + content)
    try:
        assert read_csv(path)
    except DataError as error:
        assert "\n" not in str(error)


def test_labels_become_abnormal_windows(tmp_path: pathlib.Path) -> None:
    rows = [f"{moment:%Y-%m-%d %H:%M:%S},1" for moment in MOMENTS]
    recordings = read_csv(table(tmp_path / "a.csv", ["timestamp,value", *rows]))
    labels = tmp_path / "labels.json"
    labels.write_text(
        json.dumps({"folder/a.csv": [[f"{MOMENTS[5]:%Y-%m-%d %H:%M:%S.%f}", f"{MOMENTS[9]:%Y-%m-%d %H:%M:%S.%f}"]]})
    )
    [found] = with_labels(recordings, labels)
    assert [(one.metric, one.start, one.end) for one in found.incidents or ()] == [("value", 5, 10)]
    labels.write_text("[1, 2]")
    with pytest.raises(DataError, match="abnormal windows"):
        with_labels(recordings, labels)
