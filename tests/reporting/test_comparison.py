"""Verdicts say only what the intervals support."""

from __future__ import annotations

from typing import Any

import pytest

from overseer_training.reporting.comparison import Row, answer_outcome, compare


def score(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "n": 100,
        "value": value,
        "ci95": None if low is None else [low, high],
        "baseline": {},
        "unscored": 0,
        **more,
    }


def row(name: str, base: dict[str, Any] | None, trained: dict[str, Any] | None) -> Row:
    sides = {"base": {name: base} if base else {}, "trained": {name: trained} if trained else {}}
    return compare(sides)[0]


@pytest.mark.parametrize(
    ("name", "base", "trained", "verdict"),
    [
        ("command_accuracy", score(0.02, 0.01, 0.04), score(0.61, 0.56, 0.66), "better"),
        ("command_accuracy", score(0.61, 0.56, 0.66), score(0.02, 0.01, 0.04), "worse"),
        ("command_accuracy", score(0.50, 0.40, 0.60), score(0.55, 0.45, 0.65), "unclear"),
        ("answer_loss", score(2.8, 2.7, 2.9), score(0.6, 0.5, 0.7), "better"),
        ("answer_loss", score(0.6, 0.5, 0.7), score(2.8, 2.7, 2.9), "worse"),
        ("answers_per_second", score(41.0, 40.0, 42.0), score(20.0, 19.0, 21.0), "worse"),
        ("answers_per_second", score(41.0), score(20.0), "unclear"),
        ("command_accuracy", score(0.5), score(0.6), "unclear"),
        ("harmful_share", score(1.0, 0.207, 1.0), score(0.0, 0.0, 0.793), "unclear"),  # one task
        ("command_accuracy", score(0.5, 0.4, 0.6), score(None, reason="no sandbox"), "unscored"),
        ("command_accuracy", None, score(0.5, 0.4, 0.6), "alone"),
        ("command_accuracy", None, score(None), "unscored"),
    ],
)
def test_verdict(name: str, base: dict[str, Any] | None, trained: dict[str, Any] | None, verdict: str) -> None:
    assert row(name, base, trained).verdict == verdict


def test_values_carry_their_units() -> None:
    accuracy = row("command_accuracy", score(0.02, 0.01, 0.04), score(0.613, 0.565, 0.66))
    assert accuracy.trained is not None
    assert (accuracy.trained.text, accuracy.trained.interval, accuracy.change) == (
        "61.3 %",
        "56.5–66.0 %",
        "+59.3 points",
    )
    loss = row("answer_loss", score(2.871, 2.83, 2.91), score(0.644, 0.62, 0.668))
    assert loss.trained is not None
    assert (loss.trained.text, loss.trained.interval, loss.change) == ("0.644 nats", "0.620–0.668", "−2.227 nats")


def test_unscored_items_and_baselines_are_said() -> None:
    told = row(
        "tool_mrr", score(0.4, 0.3, 0.5), score(0.5, 0.4, 0.6, unscored=3, reason="time limit", baseline={"bm25": 0.44})
    )
    assert told.holes == ["trained: 3 unscored (time limit)"]
    assert told.baselines == ["BM25: 0.44"]


def test_metrics_that_are_not_known_are_shown_after_those_that_are() -> None:
    rows = compare({"base": {"new_thing": score(0.1), "token_accuracy": score(0.1)}, "trained": {}})
    assert [(row.name, row.label) for row in rows] == [("token_accuracy", "Token accuracy"), ("new_thing", "New thing")]


@pytest.mark.parametrize(
    ("base", "trained", "outcome"),
    [
        (False, True, "gained"),
        (True, False, "lost"),
        (True, True, "right"),
        (False, False, "wrong"),
        (None, True, "unscored"),
    ],
)
def test_an_answer_is_told_by_both_verdicts(base: bool | None, trained: bool | None, outcome: str) -> None:
    assert answer_outcome({"base": {"equal": base}, "trained": {"equal": trained}}) == outcome


@pytest.mark.parametrize(
    ("name", "value", "baseline", "beaten_by"),
    [
        ("prediction_threshold_brier", 0.30, {"persistence": 0.20, "constant": 0.25}, "persistence"),
        ("prediction_threshold_brier", 0.15, {"persistence": 0.20}, ""),
        ("tool_hit_at_1", 0.40, {"bm25": 0.56}, "BM25"),
        ("tool_hit_at_1", 0.60, {"bm25": 0.56}, ""),
        ("command_accuracy", 0.10, {}, ""),
    ],
)
def test_a_model_that_does_not_beat_its_baseline_is_said_to(
    name: str, value: float, baseline: dict[str, float], beaten_by: str
) -> None:
    assert row(name, score(0.1), score(value, baseline=baseline)).beaten_by == beaten_by
