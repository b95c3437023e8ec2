"""What the assistant foresaw: a window of telemetry, what came after it, and what the model and a baseline had said.

Takes the answers of a run; gives one chart and one sentence for each type of question that has a series.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from overseer_training.reporting.charts import Chart, Line, Points, draw_chart
from overseer_training.reporting.units import as_duration, as_quantity
from overseer_training.telemetry.wording import parse_answer

TYPES = ("forecast", "threshold")


@dataclasses.dataclass(frozen=True)
class Foreseen:
    """One question: its chart, and what was said and what came, in words."""

    chart: Chart
    sentence: str


def draw_foresight(answers: Sequence[Mapping[str, Any]]) -> list[Foreseen]:
    """The first question of each type whose answer of the trained model can be read, else the first."""
    found = []
    for kind in TYPES:
        asked = [answer for answer in answers if _question(answer).get("type") == kind]
        chosen = next((answer for answer in asked if _said(answer) is not None), asked[0] if asked else None)
        if chosen is not None and (drawn := _draw(chosen)):
            found.append(drawn)
    return found


def _draw(answer: Mapping[str, Any]) -> Foreseen | None:
    series, question, said = answer["series"], _question(answer), _said(answer)
    hours = series["step_seconds"] / 3600
    past = _points(series["past"], hours, 1 - len(series["past"]))
    future = _points(series["future"], hours, 1)
    if not past or not future:
        return None
    baseline = series["baseline"]
    lines = [
        Line("shown", past, "raw"),
        Line("what came", [past[-1], *future], "main"),
        Line(str(baseline["name"]), _points(baseline["path"], hours, 1), "base"),
    ]
    if isinstance(said, float):
        lines.append(Line("the model", [(future[0][0], said), (future[-1][0], said)], "second"))
    metric = str(question["metric"]).replace("_", " ")
    limit = question.get("limit")
    chart = draw_chart(
        metric,
        "",
        lines,
        as_quantity,
        lambda value: f"{value:g}",
        limit=(float(limit), f"{limit:g}") if limit is not None else None,
        marks=[(0.0, "now")],
        x_text=lambda hour: f"{hour:+.1f} h",
    )
    horizon = as_duration(float(question["horizon_seconds"]))
    return Foreseen(chart, _sentence(question, metric, horizon, series, said)) if chart else None


def _sentence(question: Mapping[str, Any], metric: str, horizon: str, series: Mapping[str, Any], said: Any) -> str:
    truth, name, baseline = series["answer"], series["baseline"]["name"], series["baseline"]["answer"]
    if question["type"] == "forecast":
        model = f"the model said {said:.4g}" if said is not None else "the model gave no number"
        return f"Mean of {metric} over the next {horizon}: {model}, {name} {baseline:.4g}; it was {truth:.4g}."
    model = f"the model said {said['probability']:.0%}" if said is not None else "the model gave no probability"
    came = "it did" if truth else "it did not"
    return f"Will {metric} pass {question['limit']:g} within {horizon}? {model}, {name} {baseline['probability']:.0%}; {came}."


def _question(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    series = answer.get("series")
    question = series.get("question") if isinstance(series, Mapping) else None
    return question if isinstance(question, Mapping) else {}


def _said(answer: Mapping[str, Any]) -> Any:
    """What the trained model answered; None where it cannot be read."""
    return parse_answer(dict(_question(answer)), str((answer.get("trained") or {}).get("command", "")))


def _points(values: Sequence[float | None], hours: float, first: int) -> Points:
    return [((first + place) * hours, float(value)) for place, value in enumerate(values) if value is not None]
