"""Questions and answers in words that a small language model reads and writes.

Takes windows, questions and answers; gives texts, and reads them back. A model of 135M parameters cannot do arithmetic on 288
values: the prompt has the numbers that matter, and what forecasters and rules make of them. The model's part is to say when they are wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from overseer_training.telemetry.baselines import anomaly_by_deviation, answer_with, cause_by_rules
from overseer_training.telemetry.combination import packaged
from overseer_training.telemetry.questions import CAUSES, COMMANDS
from overseer_training.telemetry.summary import as_values, repetition, summarize, window_values, yesterday

METRICS_SHOWN = 5  # of a window, those that deviate most; more do not fit
LONGEST_NAME = 24
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
CAUSE = re.compile("|".join(cause.replace("_", "[ _]") for cause in CAUSES), re.IGNORECASE)
SINCE = re.compile(r"(\S+)\s+(?:for|since)\s+(\d+)\s*min", re.IGNORECASE)


def render(window: Mapping[str, Any], question: Mapping[str, Any]) -> str:
    """The prompt for `question` over `window`, without its answer."""
    kind = question["type"]
    if kind in ("threshold", "forecast"):
        return _one_metric(window, question)
    guess = anomaly_by_deviation(window) if kind == "anomaly" else cause_by_rules(window)
    said = render_answer(question, guess).split(":")[0]
    ask = "Last hour abnormal? Where, how long?" if kind == "anomaly" else "What is the cause?"
    return f"{_all_metrics(window)}\nrules: {said}\n{ask}"


def render_answer(question: Mapping[str, Any], answer: Any) -> str:
    """The answer as text.

    Args:
        answer: as `questions.ask` gives it or `parse_answer` reads it.
    """
    kind = question["type"]
    if kind == "threshold":
        probability = float(answer) if isinstance(answer, bool) else answer["probability"]
        return f"{'yes' if probability >= 0.5 else 'no'} {probability:.2f}"
    if kind == "forecast":
        return _number(answer)
    if kind == "cause":
        return f"{answer.replace('_', ' ')}: {COMMANDS[answer]}"
    if not answer["abnormal"]:
        return "no"
    if not answer.get("metric") or answer.get("since_seconds") is None:
        return "yes"
    return f"yes {_short(answer['metric'])} for {round(answer['since_seconds'] / 60)} min"


def parse_answer(question: Mapping[str, Any], text: str) -> Any:
    """What `text` says, or None where it cannot be read.

    Returns:
        threshold: {"probability"}; forecast: a number; anomaly: {"abnormal", "metric", "since_seconds"}; cause: its name.
    """
    kind, text = question["type"], text.strip()
    if kind == "cause":
        found = CAUSE.search(text)
        return found.group().lower().replace(" ", "_") if found else None
    if kind == "forecast":
        number = re.search(NUMBER, text)
        return float(number.group()) if number else None
    verdict = VERDICT.search(text)
    if kind == "threshold":
        number = re.search(rf"({NUMBER})\s*(%?)", text)
        probability = float(number[1]) / (100 if number[2] else 1) if number else None
        if probability is not None and 0 <= probability <= 1:
            return {"probability": probability}
        return {"probability": float(verdict.group().lower() == "yes")} if verdict else None
    if not verdict:
        return None
    since = SINCE.search(text)
    is_abnormal = verdict.group().lower() == "yes"
    return {
        "abnormal": is_abnormal,
        "metric": since[1] if since and is_abnormal else None,
        "since_seconds": int(since[2]) * 60 if since and is_abnormal else None,
    }


def _one_metric(window: Mapping[str, Any], question: Mapping[str, Any]) -> str:
    metric, step = question["metric"], window["step_seconds"]
    values = as_values(window["series"][metric])
    numbers, hours = summarize(values, step), question["horizon_seconds"] / 3600
    lines = [
        f"{_short(metric)}: last {_number(numbers.last)}, hour {_number(numbers.recent)}, mean {_number(numbers.mean)}, "
        f"spread {_number(numbers.spread, 2)}, slope {_number(numbers.slope, 2)}/h"
    ]
    before = yesterday(values, max(1, round(question["horizon_seconds"] / step)), step)
    if question["type"] == "forecast":
        said = {name: _number(answer_with(name, window, question)) for name in ("trend", "exponential_smoothing")}
        together = _number(packaged().answer(window, question))
        seen = "" if before is None else f", yesterday {_number(float(before.mean()))}"
        lines.append(f"trend {said['trend']}, smoothing {said['exponential_smoothing']}{seen}, together {together}")
        lines.append(f"Mean of the next {_number(hours)} h?")
        return "\n".join(lines)
    limit = question["limit"]
    chances = {
        name: answer_with(name, window, question)["probability"]
        for name in ("persistence", "trend", "exponential_smoothing")
    }
    away = (
        "never by trend" if numbers.slope <= 0 else f"{_number((limit - numbers.last) / numbers.slope, 2)} h by trend"
    )
    seen = "" if before is None else f", yesterday's top {_number(float(before.max()))}"
    lines.append(
        f"to {limit:g}: {away}{seen}; chance {chances['persistence']:.2f} {chances['trend']:.2f} "
        f"{chances['exponential_smoothing']:.2f}, together {packaged().answer(window, question)['probability']:.2f}"
    )
    lines.append(f"Over {limit:g} within {_number(hours)} h?")
    return "\n".join(lines)


def _all_metrics(window: Mapping[str, Any]) -> str:
    """For each metric: the last hour, what was before, how far off in standard deviations, slope, for how long."""
    step = window["step_seconds"]
    found = {name: summarize(values, step) for name, values in window_values(window).items()}
    shown = sorted(found, key=lambda name: -abs(found[name].deviation))[:METRICS_SHOWN]
    parts = []
    for name in (name for name in found if name in shown):
        one = found[name]
        off = f" {one.off_seconds // 60}m" if name == shown[0] else ""
        parts.append(
            f"{_short(name)} {_number(one.recent, 3)}/{_number(one.before, 3)} {one.deviation:.0f} {_number(one.slope, 1)}{off}"
        )
    cpu = window_values(window).get("cpu_percent")
    repeats = None if cpu is None else repetition(cpu, step)
    lines = "; ".join(parts)
    return lines if repeats is None else f"{lines}; cpu repeats {repeats // 60}m"


def _short(metric: str) -> str:
    return re.sub(r"\s+", "_", metric.strip()).removesuffix("_percent")[:LONGEST_NAME]


def _number(value: float, digits: int = 4) -> str:
    """So many significant digits, without an exponent where it is not needed."""
    return f"{float(f'{value:.{digits}g}'):g}"
