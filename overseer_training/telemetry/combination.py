"""The forecaster that a prompt quotes: the baselines' numbers combined with weights that were fitted on training tasks.

Takes tasks with answers; gives a `Combination` that answers `threshold` and `forecast`. `combination.json` holds the packaged weights, which
`benchmarks/telemetry_combination.py` fits. Training rows say its numbers, since a row that said what then happened would teach to be sure of
chance. It beats every single forecaster, see the README.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overseer_training.telemetry.baselines import answer_with
from overseer_training.telemetry.recordings import Values
from overseer_training.telemetry.summary import as_values, persistence_error, summarize, yesterday

PACKAGED = pathlib.Path(__file__).with_name("combination.json")
RIDGE = 1.0  # pulls weights to 0, as much as one task would; chosen
ADAPTED_RIDGE = 100.0  # pulls those for one machine to the packaged ones; chosen among 3, 10, 30, 100, see the README
ROUNDS = 12
MOST_SURE = 0.98  # a probability of 0 or 1 is never said
CLIP = 4.0  # of features of thresholds, in spreads or logits
FORECAST_CLIP = 8.0  # of features of forecasts, in persistence errors: smoothing now and then runs away; chosen on training machines


@dataclasses.dataclass(frozen=True)
class Combination:
    """Weights: of a logistic regression for `threshold`, of a linear one for `forecast`."""

    threshold: Values
    forecast: Values

    def answer(self, window: Mapping[str, Any], question: Mapping[str, Any]) -> Any:
        """As `baselines.answer_with`."""
        if question["type"] == "threshold":
            value = float(_threshold_features(window, question) @ self.threshold)
            return {"probability": min(max(_logistic(value), 1 - MOST_SURE), MOST_SURE)}
        last, unit, features = _forecast_features(window, question)
        return last + unit * float(features @ self.forecast)


@functools.cache
def packaged() -> Combination:
    """The weights that ship with the program."""
    weights = json.loads(PACKAGED.read_text())
    return Combination(np.array(weights["threshold"]), np.array(weights["forecast"]))


def fit(tasks: Sequence[Mapping[str, Any]]) -> Combination:
    """Weights from the `threshold` and `forecast` tasks among `tasks`; without any, an even chance and the last value."""
    thresholds = [task for task in tasks if task["question"]["type"] == "threshold"]
    forecasts = [task for task in tasks if task["question"]["type"] == "forecast"]
    return Combination(_fit_logistic(thresholds), _fit_linear(forecasts))


def adapt(best: Combination, tasks: Sequence[Mapping[str, Any]]) -> Combination:
    """`best` fitted further to the `threshold` tasks of one machine. Weights for `forecast` stay: fitted further they were no better."""
    thresholds = [task for task in tasks if task["question"]["type"] == "threshold"]
    return dataclasses.replace(best, threshold=_fit_logistic(thresholds, best.threshold, ADAPTED_RIDGE))


def _threshold_features(window: Mapping[str, Any], question: Mapping[str, Any]) -> Values:
    values, step = as_values(window["series"][question["metric"]]), window["step_seconds"]
    numbers, limit = summarize(values, step), question["limit"]
    before = yesterday(values, max(1, round(question["horizon_seconds"] / step)), step)
    chances = [
        answer_with(name, window, question)["probability"] for name in ("persistence", "trend", "exponential_smoothing")
    ]
    hours = question["horizon_seconds"] / 3600
    features = [
        1.0,
        *(math.log(p / (1 - p)) for p in np.clip(chances, 0.02, 0.98)),
        (limit - numbers.last) / numbers.spread,
        (limit - numbers.last - numbers.slope * hours) / numbers.spread,
        0.0 if before is None else (limit - float(before.max())) / numbers.spread,
        float(before is not None),
        math.log(hours),
    ]
    return np.asarray(np.clip(np.array(features), -CLIP, CLIP))


def _forecast_features(window: Mapping[str, Any], question: Mapping[str, Any]) -> tuple[float, float, Values]:
    """(last value, the persistence error, where each forecast is from the last value in such errors)."""
    values, step = as_values(window["series"][question["metric"]]), window["step_seconds"]
    numbers = summarize(values, step)
    before = yesterday(values, max(1, round(question["horizon_seconds"] / step)), step)
    said = [answer_with(name, window, question) for name in ("trend", "exponential_smoothing")]
    said += [numbers.recent, numbers.mean, numbers.last if before is None else float(before.mean())]
    unit = persistence_error(values, max(1, round(question["horizon_seconds"] / step)))
    return numbers.last, unit, np.clip((np.array(said) - numbers.last) / unit, -FORECAST_CLIP, FORECAST_CLIP)


def _fit_logistic(tasks: Sequence[Mapping[str, Any]], prior: Values | None = None, ridge: float = RIDGE) -> Values:
    """Newton's method on the penalized log-likelihood; `ridge` pulls weights to `prior`, zeros if None."""
    prior = np.zeros(9) if prior is None else prior
    if not tasks:
        return prior
    features = np.array([_threshold_features(task["window"], task["question"]) for task in tasks])
    outcomes = np.array([float(task["answer"]) for task in tasks])
    weights = prior
    for _ in range(ROUNDS):
        expected = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        slope = features.T @ (outcomes - expected) - ridge * (weights - prior)
        curvature = (features.T * (expected * (1 - expected))) @ features + ridge * np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, slope)
    return weights


def _fit_linear(tasks: Sequence[Mapping[str, Any]]) -> Values:
    if not tasks:
        return np.zeros(5)
    rows = [_forecast_features(task["window"], task["question"]) for task in tasks]
    features = np.array([row[2] for row in rows])
    targets = np.array([(task["answer"] - row[0]) / row[1] for task, row in zip(tasks, rows, strict=True)])
    weights = np.zeros(features.shape[1])
    for _ in range(ROUNDS):  # least absolute errors by reweighted least squares
        trust = 1 / np.maximum(np.abs(targets - features @ weights), 0.1)
        gram = (features.T * trust) @ features + RIDGE * np.eye(len(weights))
        weights = np.linalg.solve(gram, features.T @ (trust * targets))
    return weights


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))
