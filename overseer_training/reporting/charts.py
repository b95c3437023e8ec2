"""Line charts as geometry: the template only has to place what is computed here.

Takes (step, value) points and gives coordinates in percent of the plotting area, so that one chart fits every width:
lines are SVG that stretches, labels are text that does not. Draws nothing and knows no colours.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

Points = list[tuple[float, float]]
Format = Callable[[float], str]

MAX_POINTS = 400  # per line; more than there are pixels to show
SPREAD_SHARE = 0.02  # raw points beyond these quantiles may leave the plot: one spike must not flatten the rest


@dataclasses.dataclass(frozen=True)
class Line:
    """One series. `style`: raw is faint, main is the accent, second has its own colour and visible points, base is grey."""

    label: str
    points: Points
    style: Literal["raw", "main", "second", "base"]


@dataclasses.dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclasses.dataclass(frozen=True)
class DrawnLine:
    label: str
    style: str
    path: str
    dots: str


@dataclasses.dataclass(frozen=True)
class Slice:
    """A vertical strip of the plot that tells its values on hover."""

    left: float
    width: float
    title: str


@dataclasses.dataclass(frozen=True)
class Limit:
    """A horizontal line that should not be crossed."""

    at: float
    label: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """Positions in percent: x from the left, y from the top."""

    title: str
    unit: str
    summary: str
    lines: list[DrawnLine]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    slices: list[Slice]
    marks: list[Tick]
    limit: Limit | None


def draw_chart(
    title: str,
    unit: str,
    lines: Sequence[Line],
    value_text: Format,
    tick_text: Format,
    steps: tuple[float, float] | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    limit: tuple[float, str] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    x_text: Format = lambda step: f"step {step:,.0f}",
) -> Chart | None:
    """A chart of the lines that have points; None when none has.

    Args:
        value_text: writes a value on hover and in the summary; tick_text the same for the axis.
        steps: first and last of the step axis, so that charts of one run line up; the points' own otherwise.
        bounds: fixed ends of the value axis, where it has natural ones.
        limit: a value and its label.
        marks: steps at which something happened, and what.
        x_text: writes a place on the step axis, on hover and in the summary.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    own = [x for line in lines for x, _ in line.points]
    left, right = steps or (min(own), max(own))
    right = right if right > left else left + 1
    low, high, y_values = _value_axis(lines, bounds, limit)

    def x_at(step: float) -> float:
        return round((step - left) / (right - left) * 100, 2)

    def y_at(value: float) -> float:
        return round(100 - (value - low) / (high - low) * 100, 2)

    drawn = [_draw_line(line, x_at, y_at) for line in lines]
    return Chart(
        title=title,
        unit=unit,
        summary=_summarize(lines, value_text, x_text),
        lines=drawn,
        x_ticks=[Tick(x_at(step), f"{step:,.0f}") for step in nice_ticks(left, right, 5, whole=True)],
        y_ticks=[Tick(y_at(value), tick_text(value)) for value in y_values],
        slices=_slices(lines, x_at, value_text, x_text),
        marks=[Tick(x_at(step), text) for step, text in marks if left <= step <= right],
        limit=Limit(y_at(limit[0]), limit[1]) if limit else None,
    )


def smooth(points: Points, span: int) -> Points:
    """Mean over a window of `span` points around each one, so that it does not lag behind.

    Towards the start the window narrows on both sides, because curves are steep there; towards the end only ahead.
    """
    sums = [0.0, *itertools.accumulate(y for _, y in points)]
    smoothed = []
    for index, (x, _) in enumerate(points):
        behind = min(span // 2, index)
        ahead = min(behind, len(points) - 1 - index)
        smoothed.append((x, (sums[index + ahead + 1] - sums[index - behind]) / (behind + ahead + 1)))
    return smoothed


def thin(points: Points, most: int = MAX_POINTS) -> Points:
    """At most about `most` points that keep the shape: the lowest and the highest of each bucket, and both ends."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / (most / 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        kept += sorted({min(bucket, key=lambda point: point[1]), max(bucket, key=lambda point: point[1])})
    return sorted({points[0], *kept, points[-1]})


def nice_ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) inside `low` to `high`."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    size = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        size = max(1.0, float(round(size)))
    first = math.ceil(low / size - 1e-9)
    return [round(index * size, 12) for index in range(first, math.floor(high / size + 1e-9) + 1)]


def _value_axis(
    lines: Sequence[Line], bounds: tuple[float | None, float | None], limit: tuple[float, str] | None
) -> tuple[float, float, list[float]]:
    values = [limit[0]] if limit else []
    for line in lines:
        own = sorted(y for _, y in line.points)
        skipped = int(len(own) * SPREAD_SHARE) if line.style == "raw" else 0
        values += [own[skipped], own[-1 - skipped]]
    low = bounds[0] if bounds[0] is not None else min(values)
    high = bounds[1] if bounds[1] is not None else max(values)
    if high - low <= max(1e-9 * max(abs(high), abs(low)), 1e-12):
        high = low + (abs(low) if abs(low) > 1e-9 else 1.0)
    margin = 0.06 * (high - low)
    low = low if bounds[0] is not None else low - margin
    high = high if bounds[1] is not None else high + margin
    return low, high, nice_ticks(low, high, 4)


def _draw_line(line: Line, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> DrawnLine:
    places = [(x_at(x), y_at(y)) for x, y in thin(line.points)]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    # A line of no length with round ends is a dot that keeps its shape when the drawing is stretched.
    dots = "".join(f"M{x} {y}h0" for x, y in places) if line.style == "second" or len(places) == 1 else ""
    return DrawnLine(line.label, line.style, path, dots)


def _slices(
    lines: Sequence[Line], x_at: Callable[[float], float], value_text: Format, x_text: Format, most: int = 80
) -> list[Slice]:
    """Strips around the steps of the line with the most points; each tells every line's latest value."""
    longest = max(lines, key=lambda line: len(line.points)).points
    shown = longest[:: max(1, math.ceil(len(longest) / most))]
    middles = [x_at(x) for x, _ in shown]
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(middles)), 100.0]
    return [
        Slice(round(start, 2), round(end - start, 2), _slice_title(step, lines, value_text, x_text))
        for (step, _), start, end in zip(shown, edges, edges[1:], strict=False)
    ]


def _slice_title(step: float, lines: Sequence[Line], value_text: Format, x_text: Format) -> str:
    said = [x_text(step)]
    for line in lines:
        before = [point for point in line.points if point[0] <= step]
        if before:
            at = f" ({x_text(before[-1][0])})" if before[-1][0] != step else ""
            said.append(f"{line.label}: {value_text(before[-1][1])}{at}")
    return "\n".join(said)


def _summarize(lines: Sequence[Line], value_text: Format, x_text: Format) -> str:
    return "; ".join(
        f"{line.label}: from {value_text(line.points[0][1])} at {x_text(line.points[0][0])}"
        f" to {value_text(line.points[-1][1])} at {x_text(line.points[-1][0])}"
        for line in lines
    )
