"""This machine's own telemetry becomes questions, and what is held back to measure with is in none of them."""

from __future__ import annotations

import dataclasses
import math
import pathlib

import numpy as np
import pytest

from overseer_training.telemetry.background import DATABASE
from overseer_training.telemetry.combination import adapt, packaged
from overseer_training.telemetry.examples import tasks_of
from overseer_training.telemetry.own import SOURCE, held_back_tasks, own_rows, split_newest
from overseer_training.telemetry.questions import problems_of
from overseer_training.telemetry.recordings import Recording
from overseer_training.telemetry.simulate import simulate
from overseer_training.telemetry.store import METRICS, Sample, Store
from overseer_training.telemetry.stored import Stored, read_stored

START = 1_767_225_600.0


@pytest.fixture(scope="module")
def recording() -> Recording:
    return dataclasses.replace(simulate("somebody's"), name="this-machine")


def test_what_was_stored_is_read_as_means_and_spans(tmp_path: pathlib.Path) -> None:
    assert read_stored(tmp_path) is None
    with Store(tmp_path / DATABASE) as store:
        for number in range(180):
            values = {**dict.fromkeys(METRICS, 1.0), "cpu_percent": float(number), "swap_percent": None}
            store.add(Sample(START + 10 * number, values))
        before = store.path.stat().st_mode
    stored = read_stored(tmp_path)
    assert stored is not None and len(stored) == 180
    assert stored.between("cpu_percent", START + 100, START + 130).tolist() == [10, 11, 12]
    assert stored.between("swap_percent", START, START + 1e6).tolist() == []
    means = stored.means("cpu_percent")
    assert means.tolist() == [14.5 + 30 * step for step in range(6)]
    recording = stored.as_recording()
    assert (len(recording), recording.start, recording.step_seconds) == (5, START, 300)  # the last step may go on
    assert recording.series["network_mbit"].tolist() == [2.0] * 5 and "swap_percent" not in recording.series
    assert (tmp_path / DATABASE).stat().st_mode == before


def test_means_count_only_where_they_lie_within() -> None:
    rows = [{"time": START + 300 * n, "resolution": "mean", "cpu_percent": float(n)} for n in range(6)]
    stored = Stored.from_rows(rows)
    assert stored.between("cpu_percent", START + 300, START + 900).tolist() == [1, 2]
    assert stored.between("cpu_percent", START + 301, START + 899).tolist() == []
    assert math.isnan(Stored.from_rows([rows[0], rows[2]]).means("cpu_percent")[1])


def test_nothing_stored_is_no_error() -> None:
    stored = Stored.from_rows([])
    assert len(stored) == 0 and stored.between("cpu_percent", 0, 1e12).size == 0
    assert len(stored.as_recording()) == 0 and split_newest(stored.as_recording()) is None


def test_a_clock_that_was_wrong_makes_no_endless_series() -> None:
    rows = [{"time": time, "resolution": "full", "cpu_percent": 1.0} for time in (0.0, START, START + 10)]
    assert len(Stored.from_rows(rows).means("cpu_percent")) == 1


def test_the_newest_fifth_is_held_back(recording: Recording) -> None:
    parts = split_newest(recording)
    assert parts is not None
    older, newest = parts
    assert len(older) + len(newest) == len(recording) and len(newest) == pytest.approx(0.2 * len(recording), abs=1)
    assert newest.start == older.start + len(older) * 300
    tasks = held_back_tasks(newest, seed=1)
    assert len(tasks) > 40 and not any(problems_of(task) for task in tasks)
    for task in tasks:
        metric = task["question"]["metric"]
        shown = [value for value in task["window"]["series"][metric] if value is not None]
        assert set(np.round(shown, 1)) <= set(np.round(newest.series[metric], 1))


def test_too_little_telemetry_gives_no_questions(recording: Recording) -> None:
    short = {name: values[: 39 * 12] for name, values in recording.series.items()}
    assert split_newest(dataclasses.replace(recording, series=short)) is None


def test_rows_are_about_this_machine_and_no_row_comes_twice(recording: Recording) -> None:
    rows = own_rows(recording, 40, 1, "linux")
    assert 20 < len(rows) == len({row.query for row in rows}) <= 40
    assert {(row.source, row.skill) for row in rows} == {(SOURCE, "prediction")}
    assert rows == own_rows(recording, 40, 1, "linux") != own_rows(recording, 40, 2, "linux")


def test_the_forecaster_of_a_machine_moves_to_what_happens_there(recording: Recording) -> None:
    never = [{**task, "answer": False} for task in tasks_of([recording], 240, 5) if task["question"]["type"] == "threshold"]  # fmt: skip
    own = adapt(packaged(), never)
    said = [[which.answer(task["window"], task["question"])["probability"] for task in never] for which in (packaged(), own)]  # fmt: skip
    assert np.mean(said[1]) < np.mean(said[0]) - 0.05
    assert (own.forecast == packaged().forecast).all()
    assert (adapt(packaged(), []).threshold == packaged().threshold).all()
