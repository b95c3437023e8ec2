"""Scores are right on answers whose score is known, and baselines on series whose future is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from overseer_training.telemetry.baselines import FORECASTERS, anomaly_by_deviation, answer_with, cause_by_rules
from overseer_training.telemetry.combination import fit, packaged
from overseer_training.telemetry.examples import tasks
from overseer_training.telemetry.score import baseline_answers, score, score_with_baselines
from overseer_training.telemetry.summary import as_values, repetition, summarize
from overseer_training.telemetry.wording import render, render_answer

STEPS = 288


def window(*, gaps: bool = False, **series: Any) -> dict[str, Any]:
    listed = {name: [float(value) for value in values] for name, values in series.items()}
    if gaps:
        listed = {name: [None if n % 17 == 3 else v for n, v in enumerate(one)] for name, one in listed.items()}
    return {"step_seconds": 300, "series": listed}


def task(number: int, question: dict[str, Any], answer: Any, shown: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"id": str(number), "window": shown or window(a=np.arange(20)), "question": question, "answer": answer}


def test_probabilities_and_verdicts_are_scored_with_their_counts() -> None:
    question = {"type": "threshold", "metric": "a", "limit": 30, "horizon_seconds": 3600}
    given = [task(number, question, number < 2) for number in range(5)]
    said = [{"probability": 0.9}, {"probability": 0.4}, {"probability": 0.1}, {"probability": 0.1}, None]
    found = score(given, said)
    brier, balanced = found["threshold_brier"], found["threshold_balanced_accuracy"]
    assert brier.value == pytest.approx((0.01 + 0.36 + 0.01 + 0.01) / 4)
    assert balanced.value == 0.75
    assert (brier.n, brier.unscored, brier.reason) == (4, 1, "the answer cannot be read")
    assert brier.ci95 is not None and brier.ci95[0] <= brier.value <= brier.ci95[1]


def test_questions_about_one_machine_say_nothing_about_others() -> None:
    question = {"type": "forecast", "metric": "a", "horizon_seconds": 3600}
    given = [{**task(number, question, 25.5), "machine": "one"} for number in range(5)]
    found = score(given, [12.5, 13.0, 14.0, 15.0, 16.0])["forecast_scaled_error"]
    assert (found.n, found.ci95) == (5, None)


def test_forecast_errors_are_in_errors_of_persistence_within_the_window() -> None:
    question = {"type": "forecast", "metric": "a", "horizon_seconds": 3600}
    # On a line of slope 1, the last value misses the mean of the next 12 by 6.5.
    found = score([task(0, question, 25.5)], [12.5])["forecast_scaled_error"]
    assert found.value == pytest.approx(2.0)


def test_anomalies_and_causes_are_scored() -> None:
    question = {"type": "anomaly", "span_seconds": 3600}
    truth = [{"abnormal": True, "metric": "disk_percent"}] * 3 + [{"abnormal": False, "metric": None}] * 2
    said = [{"abnormal": True, "metric": "disk"}, {"abnormal": True, "metric": "cpu"}, {"abnormal": False, "metric": None},
            {"abnormal": True, "metric": "cpu"}, {"abnormal": False, "metric": None}]  # fmt: skip
    found = score([task(number, question, answer) for number, answer in enumerate(truth)], said)
    assert found["anomaly_f1"].value == pytest.approx(2 / 3)
    assert (found["anomaly_metric"].value, found["anomaly_metric"].n) == (0.5, 2)
    causes = [task(number, {"type": "cause"}, "nothing") for number in range(4)]
    assert score(causes, ["nothing", "memory_leak", "nothing", None])["cause_accuracy"].value == pytest.approx(2 / 3)


def test_nothing_readable_is_unscored_and_not_zero() -> None:
    found = score([task(0, {"type": "cause"}, "nothing")], [None])["cause_accuracy"]
    assert (found.n, found.value, found.unscored) == (0, None, 1)


@pytest.mark.parametrize("gaps", [False, True])
def test_forecasters_are_right_where_their_assumption_holds(gaps: bool) -> None:
    day = 50 + 20 * np.sin(2 * np.pi * np.arange(STEPS) / STEPS)
    line = 10 + 0.05 * np.arange(STEPS)
    question = {"type": "forecast", "metric": "a", "horizon_seconds": 3600}
    assert answer_with("persistence", window(a=np.full(STEPS, 7), gaps=gaps), question) == 7
    assert answer_with("trend", window(a=line, gaps=gaps), question) == pytest.approx(line[-1] + 0.05 * 6.5, abs=1e-6)
    assert answer_with("seasonal_naive", window(a=day, gaps=gaps), question) == pytest.approx(day[:12].mean(), abs=0.3)
    smoothed = answer_with("exponential_smoothing", window(a=line, gaps=gaps), question)
    assert smoothed == pytest.approx(line[-1] + 0.05 * 6.5, abs=0.1)  # a little less, being damped


@pytest.mark.parametrize("name", sorted(FORECASTERS))
@pytest.mark.parametrize(
    "values", [[5.0] * 40, [0.0] * 99 + [1e9], [1.0, 2.0, 3.0], [1e-9, 2e-9] * 30, [None, 1.0, None]]
)
def test_forecasters_survive_odd_series(name: str, values: list[float | None]) -> None:
    shown = {"step_seconds": 300, "series": {"a": values}}
    question = {"type": "threshold", "metric": "a", "limit": 2e9, "horizon_seconds": 3600}
    assert 0 <= answer_with(name, shown, question)["probability"] <= 1
    assert math.isfinite(answer_with(name, shown, {**question, "type": "forecast"}))


def test_a_rising_series_is_likelier_to_pass_the_nearer_the_limit_and_the_longer_the_time() -> None:
    shown = window(a=10 + 0.1 * np.arange(STEPS) + np.random.default_rng(0).normal(0, 0.5, STEPS))

    def chance(limit: float, hours: int) -> float:
        question = {"type": "threshold", "metric": "a", "limit": limit, "horizon_seconds": 3600 * hours}
        return float(answer_with("exponential_smoothing", shown, question)["probability"])

    assert chance(40, 1) > chance(45, 1)
    assert chance(45, 6) > chance(45, 1)


def test_rules_know_the_plain_cases() -> None:
    rng = np.random.default_rng(0)
    calm = {name: level + rng.normal(0, 0.5, STEPS) for name, level in (("cpu_percent", 20), ("memory_percent", 40))}
    calm |= {"disk_percent": np.full(STEPS, 50.0), "network_mbit": 10 + rng.normal(0, 1, STEPS)}
    late = np.arange(STEPS) >= STEPS - 36
    rise = np.maximum(0, np.arange(STEPS) - (STEPS - 36))
    assert cause_by_rules(window(**calm)) == "nothing"
    assert cause_by_rules(window(**{**calm, "memory_percent": calm["memory_percent"] + 0.3 * rise})) == "memory_leak"
    assert cause_by_rules(window(**{**calm, "disk_percent": calm["disk_percent"] + 0.2 * rise})) == "log_growth"
    busy = {**calm, "cpu_percent": calm["cpu_percent"] + 50 * late}
    assert cause_by_rules(window(**busy)) == "runaway_process"
    assert cause_by_rules(window(**{**busy, "network_mbit": calm["network_mbit"] + 60 * late})) == "traffic_burst"
    job = calm["cpu_percent"] + 30 * (np.arange(STEPS) % 24 < 3)
    assert cause_by_rules(window(**{**calm, "cpu_percent": job})) == "periodic_job"
    assert repetition(job, 300) == 24 * 300
    leak = anomaly_by_deviation(window(**{**calm, "memory_percent": calm["memory_percent"] + 30 * late}))
    assert leak == {"abnormal": True, "metric": "memory_percent", "since_seconds": 36 * 300}
    assert not anomaly_by_deviation(window(**calm))["abnormal"]


def test_a_summary_has_the_slope_an_hour_and_no_infinite_deviation() -> None:
    numbers = summarize(as_values([*np.arange(100.0), None]), 300)
    assert numbers.slope == pytest.approx(12, abs=0.5)
    jump = summarize(as_values([5.0] * 100 + [6.0] * 12), 300)
    assert 4 < jump.deviation < 1000


def test_the_quoted_forecaster_beats_others_on_machines_it_never_saw() -> None:
    asked = [one for one in tasks(480, 0, "test") if one["question"]["type"] in ("threshold", "forecast")]
    said = [packaged().answer(one["window"], one["question"]) for one in asked]
    found = score_with_baselines(asked, said)
    for metric, beaten in (
        ("threshold_brier", ("persistence", "trend", "seasonal_naive", "exponential_smoothing", "constant")),
        ("forecast_scaled_error", ("persistence", "trend", "seasonal_naive")),  # nearly all of it is smoothing
    ):
        others, value = found[metric].baseline, found[metric].value
        assert found[metric].n > 90 and value is not None and value == others["combination"]
        assert value < min(others[name] for name in beaten)


def test_a_prompt_quotes_the_forecaster_and_the_rules() -> None:
    for one in tasks(40, 0, "test"):
        prompt, question = render(one["window"], one["question"]), one["question"]
        if question["type"] in ("threshold", "forecast"):
            number = render_answer(question, packaged().answer(one["window"], question)).split()[-1]
            assert f", together {number}\n" in prompt
        else:
            guess = (anomaly_by_deviation if question["type"] == "anomaly" else cause_by_rules)(one["window"])
            assert f"\nrules: {render_answer(question, guess).split(':')[0]}\n" in prompt


def test_the_packaged_weights_are_those_that_fitting_gives() -> None:
    fitted = fit(tasks(600, 42, "train"))
    asked = [one for one in tasks(200, 0, "test") if one["question"]["type"] == "threshold"]
    for one in asked:
        new, kept = (who.answer(one["window"], one["question"])["probability"] for who in (fitted, packaged()))
        assert abs(new - kept) < 0.3


def test_baselines_are_scored_on_the_tasks_that_the_model_answered_readably() -> None:
    """An answer that cannot be read took a task from the model alone: the baselines beside it were those of other tasks."""
    causes = [
        task(number, {"type": "cause"}, answer) for number, answer in enumerate(["nothing", "nothing", "leak", "leak"])
    ]
    found = score_with_baselines(causes, ["nothing", "leak", None, None])["cause_accuracy"]
    assert (found.n, found.unscored, found.value) == (2, 2, 0.5)
    assert found.baseline["constant"] == 1  # and 0.5 on all four
    unread = score_with_baselines(causes, [None] * 4)["cause_accuracy"]
    assert (unread.n, unread.unscored, unread.value, unread.baseline) == (0, 4, None, {})


def test_every_question_has_a_baseline() -> None:
    asked = tasks(40, 0, "test")
    said = baseline_answers(asked)
    assert all(any(answers[place] is not None for answers in said.values()) for place in range(len(asked)))


def test_causes_that_are_all_right_are_not_known_exactly() -> None:
    given = [{**task(number, {"type": "cause"}, "nothing"), "machine": str(number)} for number in range(8)]
    found = score(given, ["nothing"] * 8)["cause_accuracy"]
    assert found.value == 1 and found.ci95 is not None and found.ci95[0] < 0.7
