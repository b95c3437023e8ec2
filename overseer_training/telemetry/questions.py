"""Questions about what a machine does next, whose answers can be checked against what it did.

Takes recordings; gives tasks in the form of a suite: {"kind": "prediction", "window", "question", "answer"}. The question's
`type` is `threshold`, `forecast`, `anomaly` or `cause`; the README shows each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overseer_training.telemetry.recordings import Incident, Recording, Values

KINDS = ("threshold", "forecast", "anomaly", "cause")
COMMANDS = {  # cause -> what to look with
    "memory_leak": "ps aux --sort=-%mem | head",
    "runaway_process": "ps aux --sort=-%cpu | head",
    "log_growth": "sudo du -xh /var/log | sort -h | tail",
    "periodic_job": "systemctl list-timers --all",
    "traffic_burst": "ss -s",
    "nothing": "uptime",
}
CAUSES = tuple(COMMANDS)
CAUSE_METRICS = {"cpu_percent", "memory_percent", "disk_percent", "network_mbit"}  # the least to tell causes apart
HOURS_SHOWN = (6, 12, 24)
HORIZON_HOURS = (1, 3, 6)  # of a threshold
MOST_METRICS = 8  # in a window of all metrics
LEAST_KNOWN = 0.9  # share of steps that must have been measured
SLOW_CAUSES = ("memory_leak", "log_growth")  # seen after an hour; the others after a quarter
LEAST_JOB_RUNS = 3  # that a window must show before a job is called periodic


def kinds_for(recording: Recording) -> tuple[str, ...]:
    """Which types of question `recording` can answer: without labels no anomaly, without a whole machine's metrics no cause."""
    if recording.incidents is None:
        return KINDS[:2]
    return KINDS if set(recording.series) >= CAUSE_METRICS else KINDS[:3]


def ask(
    recording: Recording, kind: str, end: int, hours: int, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any], Any] | None:
    """A question about `recording` as it stood before step `end`: (window, question, answer).

    Args:
        hours: how much the window shows.

    Returns:
        None where this place has no fair question: too much is missing, or nobody could know the answer.
    """
    steps = hours * recording.steps_per_hour
    if end < steps or end > len(recording) or kind not in kinds_for(recording):
        return None
    maker = {"threshold": _threshold, "forecast": _forecast, "anomaly": _anomaly, "cause": _cause}[kind]
    found: tuple[dict[str, Any], dict[str, Any], Any] | None = maker(recording, end - steps, end, rng)
    return found


def future_of(recording: Recording, question: Mapping[str, Any], end: int) -> dict[str, Any]:
    """{"future": what `question` is about, as it went on from step `end`}, for people to see; empty for other questions."""
    if "horizon_seconds" not in question:
        return {}
    steps = question["horizon_seconds"] // recording.step_seconds
    return {"future": _rounded(recording.series[question["metric"]][end : end + steps])}


def known_part(window: Mapping[str, Any]) -> dict[str, Any]:
    """`window` with those series alone that enough of was measured to ask about; none may be left."""
    series = {name: values for name, values in window["series"].items() if known_share(values) >= LEAST_KNOWN}
    return {**window, "series": series}


def known_share(values: Sequence[float | None]) -> float:
    """Share of the steps of a window's series that were measured, 0 to 1."""
    return sum(value is not None for value in values) / max(1, len(values))


def problems_of(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with the window, question and answer of a task that somebody wrote; empty when nothing is."""
    window, question = document.get("window"), document.get("question")
    series = window.get("series") if isinstance(window, Mapping) else None
    if not isinstance(window, Mapping) or not isinstance(series, Mapping) or not series:
        return ["'window' must have 'step_seconds' and 'series', a mapping of metrics to numbers"]
    problems = []
    if not isinstance(window.get("step_seconds"), int) or not 1 <= window["step_seconds"] <= 3600:
        problems.append("'step_seconds' must be a whole number from 1 to 3600")
    lists = list(series.values())
    if not all(isinstance(values, list) and all(map(_is_number_or_none, values)) for values in lists):
        problems.append("every series must be a list of numbers, with null where nothing was measured")
    elif len({len(values) for values in lists}) != 1 or len(lists[0]) < 3:
        problems.append("all series must have the same number of values, at least 3")
    elif any(all(value is None for value in values) for values in lists):
        problems.append("every series needs a value that is not null")
    if not isinstance(question, Mapping) or question.get("type") not in KINDS:
        return [*problems, f"the question's 'type' must be one of {', '.join(KINDS)}"]
    return problems + _question_problems(question, series) + _answer_problems(question["type"], document.get("answer"))


def _threshold(recording: Recording, start: int, end: int, rng: np.random.Generator) -> Any:
    metric = _draw_metric(recording, rng)
    horizon = int(rng.choice(HORIZON_HOURS)) * recording.steps_per_hour
    past, future = recording.series[metric][start:end], recording.series[metric][end : end + horizon]
    if not _is_known(past) or not _is_known(future) or len(future) < horizon:
        return None
    peak = float(np.nanmax(past[-recording.steps_per_hour :]))
    reach = float(np.nanstd(past))
    if reach <= 1e-6 * max(1.0, abs(peak)):
        return None
    unit = 10.0 ** math.floor(math.log10(reach))
    limit = float(f"{math.ceil((peak + reach * rng.uniform(0.1, 2.5)) / unit + 1e-9) * unit:.6g}")
    if metric.endswith("_percent") and limit >= 100:
        return None
    question = {
        "type": "threshold",
        "metric": metric,
        "limit": limit,
        "horizon_seconds": horizon * recording.step_seconds,
    }
    return _window(recording, start, end, [metric]), question, bool(np.nanmax(future) > limit)


def _forecast(recording: Recording, start: int, end: int, rng: np.random.Generator) -> Any:
    metric = _draw_metric(recording, rng)
    hour = recording.steps_per_hour
    past, future = recording.series[metric][start:end], recording.series[metric][end : end + hour]
    if not _is_known(past) or not _is_known(future) or len(future) < hour or np.nanstd(past) == 0:
        return None
    question = {"type": "forecast", "metric": metric, "horizon_seconds": hour * recording.step_seconds}
    return _window(recording, start, end, [metric]), question, float(f"{np.nanmean(future):.6g}")


def _anomaly(recording: Recording, start: int, end: int, rng: np.random.Generator) -> Any:
    metrics = _known_metrics(recording, start, end)
    if not metrics:
        return None
    question = {"type": "anomaly", "span_seconds": recording.steps_per_hour * recording.step_seconds}
    window = _window(recording, start, end, metrics)
    abnormal = [incident for incident in _shown(recording, start, end) if incident.is_abnormal]
    if not abnormal:
        return window, question, {"abnormal": False, "metric": None, "since_seconds": None}
    incident = abnormal[-1]
    if len(abnormal) > 1 or not _is_plain(recording, incident, start, end):
        return None
    since = (end - incident.start) * recording.step_seconds
    return window, question, {"abnormal": True, "metric": incident.metric or None, "since_seconds": since}


def _cause(recording: Recording, start: int, end: int, rng: np.random.Generator) -> Any:
    metrics = _known_metrics(recording, start, end)
    if not set(metrics) >= CAUSE_METRICS:
        return None
    shown = _shown(recording, start, end)
    abnormal = [incident for incident in shown if incident.is_abnormal]
    runs = len(shown) - len(abnormal)
    if len(abnormal) > 1 or any(incident.cause not in CAUSES for incident in abnormal):
        return None
    if abnormal:
        cause = abnormal[0].cause if _is_plain(recording, abnormal[0], start, end) else None
    else:
        cause = "nothing" if not runs else "periodic_job" if runs >= LEAST_JOB_RUNS else None
    return None if cause is None else (_window(recording, start, end, metrics), {"type": "cause"}, cause)


def _is_plain(recording: Recording, incident: Incident, start: int, end: int) -> bool:
    """Whether one who sees the window could know: the incident goes on, began in the later two thirds, and had time to show."""
    hour = recording.steps_per_hour
    least = hour if incident.cause in SLOW_CAUSES else max(1, hour // 4)
    if incident.cause == "unknown":  # labelled by others, with generous margins
        return min(end, incident.end) - max(start, incident.start, end - hour) >= least
    return incident.end >= end and end - incident.start >= least and incident.start >= start + (end - start) // 3


def _shown(recording: Recording, start: int, end: int) -> list[Incident]:
    return [one for one in recording.incidents or () if one.start < end and one.end > start]


def _known_metrics(recording: Recording, start: int, end: int) -> list[str]:
    known = [name for name, values in recording.series.items() if _is_known(values[start:end])]
    return known[:MOST_METRICS]


def _draw_metric(recording: Recording, rng: np.random.Generator) -> str:
    return str(rng.choice(list(recording.series)))


def _is_known(values: Values) -> bool:
    return bool(len(values)) and float(np.isfinite(values).mean()) >= LEAST_KNOWN


def _window(recording: Recording, start: int, end: int, metrics: Sequence[str]) -> dict[str, Any]:
    series = {name: _rounded(recording.series[name][start:end]) for name in metrics}
    return {"step_seconds": recording.step_seconds, "series": series}


def _rounded(values: Values) -> list[float | None]:
    """To six significant digits of the largest, None for NaN."""
    peak = float(np.nanmax(np.abs(values)))
    digits = 5 - math.floor(math.log10(peak)) if peak > 0 else 0
    return [None if math.isnan(value) else value for value in np.round(values, digits).tolist()]


def _is_number_or_none(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


def _question_problems(question: Mapping[str, Any], series: Mapping[str, Any]) -> list[str]:
    problems = []
    if question["type"] in ("threshold", "forecast"):
        if question.get("metric") not in series:
            problems.append("the question's 'metric' must be one of the series")
        horizon = question.get("horizon_seconds")
        if not isinstance(horizon, int) or not 1 <= horizon <= 7 * 86_400:
            problems.append("'horizon_seconds' must be a whole number from 1 to 604800")
    if question["type"] == "threshold" and (
        question.get("limit") is None or not _is_number_or_none(question.get("limit"))
    ):
        problems.append("'limit' must be a number")
    return problems


def _answer_problems(kind: str, answer: Any) -> list[str]:
    if kind == "threshold":
        return [] if isinstance(answer, bool) else ["the answer to 'threshold' is true or false"]
    if kind == "forecast":
        return [] if answer is not None and _is_number_or_none(answer) else ["the answer to 'forecast' is a number"]
    if kind == "cause":
        return [] if answer in CAUSES else [f"the answer to 'cause' is one of {', '.join(CAUSES)}"]
    right = isinstance(answer, Mapping) and isinstance(answer.get("abnormal"), bool)
    return (
        []
        if right
        else ["the answer to 'anomaly' has 'abnormal', true or false, and may have 'metric', 'since_seconds'"]
    )
