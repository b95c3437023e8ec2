"""`overseer telemetry outlook` asks about what was measured, and not about a day that it made up."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import pytest

from overseer_training import cli
from overseer_training.commands import telemetry
from overseer_training.telemetry.background import DATABASE, default_folder
from overseer_training.telemetry.questions import HORIZON_HOURS
from overseer_training.telemetry.store import METRICS, Sample, Store

MINUTE = 60.0


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """(window, questions) that a model would be asked."""
    calls: list[tuple[Any, Any]] = []
    monkeypatch.setattr(telemetry, "_answer", lambda model, window, questions: calls.append((window, questions)))
    return calls


def collected(hours: float, missing: tuple[str, ...] = ()) -> None:
    """`hours` of telemetry until now, a sample a minute."""
    now = time.time()
    with Store(default_folder() / DATABASE) as store:
        for minute in range(round(hours * 60)):
            values = {name: None if name in missing else 20.0 + minute % 7 for name in METRICS}
            store.add(Sample(now - minute * MINUTE - 1, values))


@pytest.mark.parametrize("hours", [0.05, 1, 5])
def test_too_little_telemetry_says_how_much_there_is(
    hours: float, asked: list[tuple[Any, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour was shown as a day, 23 hours of it made up."""
    collected(hours)
    assert cli.main(["telemetry", "outlook", "--model", "nowhere"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "needs 90% of the last 6 hours" in shown
    assert f"there are {max(5, round(hours * 60))} minutes" in shown
    assert asked == []


@pytest.mark.parametrize(("hours", "shown_hours"), [(5.5, 6), (8, 6), (11, 12), (20, 12), (22, 24), (30, 24)])
def test_the_longest_window_that_was_measured_is_shown(
    hours: float, shown_hours: int, asked: list[tuple[Any, Any]]
) -> None:
    collected(hours)
    assert cli.main(["telemetry", "outlook"]) == 0
    [(window, questions)] = asked
    assert {len(values) for values in window["series"].values()} == {shown_hours * 12}
    assert [question["type"] for _, question in questions] == ["anomaly", "cause", *["threshold"] * 3]
    ahead = {question["horizon_seconds"] // 3600 for _, question in questions if "horizon_seconds" in question}
    assert ahead and ahead <= set(HORIZON_HOURS), "models learn nothing about other times"


def test_a_metric_that_was_not_measured_is_not_asked_about(asked: list[tuple[Any, Any]]) -> None:
    collected(8, missing=("disk_percent", "network_sent_mbit"))
    assert cli.main(["telemetry", "outlook"]) == 0
    [(window, questions)] = asked
    assert set(window["series"]) == {"cpu_percent", "memory_percent", "load_1m"}
    assert [question.get("metric") for _, question in questions] == [None, "memory_percent", "cpu_percent"]
    assert questions[0][1]["type"] == "anomaly", "the cause cannot be told without the network"


def test_without_telemetry_it_says_how_to_collect_some(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["telemetry", "outlook"]) == 2
    assert "overseer telemetry start" in capsys.readouterr().err
