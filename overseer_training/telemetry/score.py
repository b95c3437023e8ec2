"""Scores of answers to prediction questions, each with its n, its 95 % interval and its baselines.

Takes tasks and answers (None: not readable, which is unscored and never zero); gives `Score`s by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from overseer_training.intervals import wilson_interval
from overseer_training.records import Score
from overseer_training.telemetry.baselines import (
    FORECASTERS,
    anomaly_by_deviation,
    anomaly_by_smoothing,
    answer_with,
    cause_by_rules,
)
from overseer_training.telemetry.combination import packaged
from overseer_training.telemetry.summary import as_values, persistence_error

RESAMPLES = 1000
Outcomes = Sequence[tuple[float, ...]]  # one tuple a task


def score(tasks: Sequence[Mapping[str, Any]], answers: Sequence[Any]) -> dict[str, Score]:
    """All metrics for which there are tasks.

    threshold_brier: mean squared error of the probability; 0 is perfect, 0.25 is a coin.
    threshold_balanced_accuracy: mean of the shares of passes and of non-passes that were said; 0.5 is a coin.
    forecast_scaled_error: mean absolute error, over that of the persistence forecast within the window (MASE); below 1 is better.
    anomaly_f1: of abnormal windows.
    anomaly_metric: among abnormal windows that were found and have a known place, the share where the metric was right.
    cause_accuracy: share of right causes.

    Source: Brier, 1950; Hyndman and Koehler, Another look at measures of forecast accuracy, 2006.
    """
    found: dict[str, Score] = {}
    rows: dict[str, list[tuple[Mapping[str, Any], Any]]] = {}
    for task, answer in zip(tasks, answers, strict=True):
        rows.setdefault(task["question"]["type"], []).append((task, answer))
    for kind, pairs in sorted(rows.items()):
        readable = [(task, answer) for task, answer in pairs if answer is not None]
        clusters = [str(task.get("machine", task["id"])) for task, _ in readable]
        unscored = len(pairs) - len(readable)
        for name, outcome, statistic in METRICS[kind]:
            outcomes = [outcome(task, answer) for task, answer in readable]
            kept = [place for place, value in enumerate(outcomes) if value is not None]
            values = np.array([outcomes[place] for place in kept], dtype=np.float64)
            found[name] = _with_interval(values, [clusters[place] for place in kept], statistic, unscored)
    return found


def baseline_answers(tasks: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What each baseline says to each task; None where it has nothing to say."""
    return {
        name: [_baseline_answer(name, task["window"], task["question"]) for task in tasks]
        for name in (*FORECASTERS, "combination", "deviation", "rules", "constant")
    }


def score_with_baselines(tasks: Sequence[Mapping[str, Any]], answers: Sequence[Any]) -> dict[str, Score]:
    """`score`, with the value of each baseline on the same tasks: of those whose answer is readable, where it has one of its own."""
    scores = score(tasks, answers)
    readable = [task for task, answer in zip(tasks, answers, strict=True) if answer is not None]
    for name, said in baseline_answers(readable).items():
        known = [(task, answer) for task, answer in zip(readable, said, strict=True) if answer is not None]
        for metric, value in score([task for task, _ in known], [answer for _, answer in known]).items():
            if value.value is not None:
                scores[metric].baseline[name] = value.value
    return scores


def _baseline_answer(name: str, window: Mapping[str, Any], question: Mapping[str, Any]) -> Any:
    kind = question["type"]
    if kind in ("threshold", "forecast"):
        if name == "constant" and kind == "threshold":
            return {"probability": 0.5}
        if name == "combination":
            return packaged().answer(window, question)
        return answer_with(name, window, question) if name in FORECASTERS else None
    if kind == "anomaly":
        if name == "deviation":
            return anomaly_by_deviation(window)
        return anomaly_by_smoothing(window) if name == "exponential_smoothing" else None
    if name == "rules":
        return cause_by_rules(window)
    return "nothing" if name == "constant" else None


def _threshold_outcome(task: Mapping[str, Any], answer: Any) -> tuple[float, ...]:
    return float(task["answer"]), float(answer["probability"])


def _forecast_outcome(task: Mapping[str, Any], answer: Any) -> tuple[float, ...]:
    window, question = task["window"], task["question"]
    values = as_values(window["series"][question["metric"]])
    unit = persistence_error(values, max(1, round(question["horizon_seconds"] / window["step_seconds"])))
    return (abs(float(answer) - float(task["answer"])) / unit,)


def _anomaly_outcome(task: Mapping[str, Any], answer: Any) -> tuple[float, ...]:
    return float(task["answer"]["abnormal"]), float(answer["abnormal"])


def _place_outcome(task: Mapping[str, Any], answer: Any) -> tuple[float, ...] | None:
    metric = task["answer"].get("metric")
    if not metric or not answer["abnormal"]:
        return None
    return (float(str(answer.get("metric") or "").removesuffix("_percent") == metric.removesuffix("_percent")),)


def _cause_outcome(task: Mapping[str, Any], answer: Any) -> tuple[float, ...]:
    return (float(answer == task["answer"]),)


Statistic = Callable[[Any], float]  # of an array (tasks, outcome)


def _brier(values: Any) -> float:
    return float(((values[:, 0] - values[:, 1]) ** 2).mean())


def _mean(values: Any) -> float:
    return float(values[:, 0].mean())


def _share(values: Any) -> float:
    """A mean of zeros and ones; its interval is never narrower than that of a proportion, also where all are equal."""
    return _mean(values)


def _balanced_accuracy(values: Any) -> float:
    is_yes, said_yes = values[:, 0] == 1, values[:, 1] >= 0.5
    shares = [np.mean(said_yes[is_yes])] if is_yes.any() else []
    shares += [np.mean(~said_yes[~is_yes])] if (~is_yes).any() else []
    return float(np.mean(shares))


def _f1(values: Any) -> float:
    hits = float((values[:, 0] * values[:, 1]).sum())
    wrong = float(np.abs(values[:, 0] - values[:, 1]).sum())
    return 2 * hits / (2 * hits + wrong) if hits + wrong else 1.0


METRICS: dict[str, tuple[tuple[str, Callable[..., tuple[float, ...] | None], Statistic], ...]] = {
    "threshold": (
        ("threshold_brier", _threshold_outcome, _brier),
        ("threshold_balanced_accuracy", _threshold_outcome, _balanced_accuracy),
    ),
    "forecast": (("forecast_scaled_error", _forecast_outcome, _mean),),
    "anomaly": (("anomaly_f1", _anomaly_outcome, _f1), ("anomaly_metric", _place_outcome, _share)),
    "cause": (("cause_accuracy", _cause_outcome, _share),),
}


def _with_interval(values: Any, clusters: Sequence[str], statistic: Statistic, unscored: int) -> Score:
    """The statistic with an interval from resampling whole machines, which one machine alone has not; the same for the same input."""
    reason = "the answer cannot be read" if unscored else ""
    if not len(values):
        return Score(0, None, None, unscored, reason)
    members = [np.flatnonzero(np.array(clusters) == name) for name in sorted(set(clusters))]
    if len(members) == 1:
        return Score(len(values), statistic(values), None, unscored, reason)
    rng = np.random.default_rng(0)
    draws = [
        statistic(values[np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))])])
        for _ in range(RESAMPLES)
    ]
    low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    if statistic is _share:
        least, most = wilson_interval(int(values.sum()), len(values))
        low, high = min(low, least), max(high, most)
    return Score(len(values), statistic(values), (low, high), unscored, reason)
