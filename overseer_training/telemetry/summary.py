"""What is said about a series before anybody predicts: last value, mean, slope, spread, the same time yesterday, a repetition.

Takes values on a regular grid, NaN where nothing was measured; gives numbers. Used by prompts and baselines alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overseer_training.telemetry.recordings import Values

TREND_SECONDS = 3 * 3600  # what a slope is fitted to; chosen: long enough for noise, short enough for a leak
DAY_SECONDS = 86_400
LEAST_REPETITION = 0.35  # autocorrelation; chosen on training machines
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclasses.dataclass(frozen=True)
class Summary:
    """One metric over a window, in its own unit.

    Attributes:
        spread: standard deviation over the window; never 0.
        slope: per hour, least squares over the last 3 hours.
        recent, before: mean of the last hour, median of all before it.
        deviation: how far the last hour is from what was before, in robust standard deviations.
        off_seconds: for how long, up to the end, values are outside what was before; 0 when they are not.
    """

    last: float
    mean: float
    spread: float
    slope: float
    recent: float
    before: float
    deviation: float
    off_seconds: int


def as_values(series: Sequence[float | None]) -> Values:
    """A series of a window as numbers, NaN for None."""
    return np.array([np.nan if value is None else value for value in series], dtype=np.float64)


def window_values(window: Mapping[str, Any]) -> dict[str, Values]:
    """The series of a window that have any value."""
    series = {name: as_values(values) for name, values in window["series"].items()}
    return {name: values for name, values in series.items() if np.isfinite(values).any()}


def filled(values: Values) -> Values:
    """Missing values on the straight line between their neighbours.

    Raises:
        ValueError: all are missing.
    """
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        raise ValueError("a series without any value cannot be filled")
    return np.interp(np.arange(len(values)), known, values[known])


def fit_line(values: Values, step_seconds: int) -> tuple[float, float, float]:
    """Least squares over the last 3 hours: (value at the last step, slope a step, standard deviation around the line)."""
    tail = values[-max(3, TREND_SECONDS // step_seconds) :]
    if len(tail) < 3:
        return float(values[-1]), 0.0, 0.0
    steps = np.arange(len(tail)) - (len(tail) - 1)
    slope, level = np.polyfit(steps, tail, 1)
    return float(level), float(slope), float((tail - (level + slope * steps)).std())


def yesterday(values: Values, steps: int, step_seconds: int) -> Values | None:
    """The values one day before the next `steps`, or None when the window is shorter than a day."""
    day = DAY_SECONDS // step_seconds
    return filled(values)[len(values) - day :][:steps] if len(values) >= day >= steps else None


def persistence_error(values: Values, steps: int) -> float:
    """Mean error within the window of taking each value for the mean of the next `steps`: a unit for forecast errors.

    Source: Hyndman and Koehler, Another look at measures of forecast accuracy, 2006.
    """
    whole = filled(values)
    steps = max(1, min(steps, len(whole) - 1))
    means = np.convolve(whole, np.ones(steps) / steps, "valid")[1:]
    error = float(np.abs(means - whole[: len(means)]).mean()) if len(means) else 0.0
    return max(error, 1e-6 * max(1.0, float(np.abs(whole).max())))


def summarize(values: Values, step_seconds: int) -> Summary:
    """The numbers of one metric over a window."""
    whole = filled(values)
    hour = max(1, 3600 // step_seconds)
    earlier = whole[:-hour] if len(whole) > hour else whole
    middle = float(np.median(earlier))
    spread = float(whole.std()) or max(abs(middle), 1.0) * 1e-6
    # Never finer than a hundredth of the range or level: a constant series would make every change infinite.
    floor = max(float(np.ptp(earlier)) / 50, abs(middle) / 200, spread / 50)
    robust = max(MAD_TO_DEVIATION * float(np.median(np.abs(earlier - middle))), floor)
    recent = float(whole[-hour:].mean())
    _, slope, _ = fit_line(whole, step_seconds)
    return Summary(
        last=float(whole[-1]),
        mean=float(whole.mean()),
        spread=spread,
        slope=slope * 3600 / step_seconds,
        recent=recent,
        before=middle,
        deviation=(recent - middle) / robust,
        off_seconds=_off_steps(whole, hour) * step_seconds,
    )


def _off_steps(values: Values, hour: int) -> int:
    """How many steps at the end differ from all before: the split that leaves least variance on both sides, up to 2/3 back."""
    steps = len(values)
    starts = np.arange(max(hour, steps // 3), steps - 1)
    if not len(starts):
        return 0
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    left = squares[starts - 1] - sums[starts - 1] ** 2 / starts
    right_sum, right_square = sums[-1] - sums[starts - 1], squares[-1] - squares[starts - 1]
    right = right_square - right_sum**2 / (steps - starts)
    return int(steps - starts[np.argmin(left + right)])


def repetition(values: Values, step_seconds: int) -> int | None:
    """Seconds after which the series resembles itself, from 45 minutes to a third of the window; None when it does not."""
    whole, hour = filled(values), max(1, 3600 // step_seconds)
    smooth = np.convolve(np.pad(whole, hour, mode="edge"), np.ones(2 * hour + 1) / (2 * hour + 1), "valid")
    rest = whole - smooth
    deviation = float(rest.std())
    lags = np.arange(max(2, 3 * hour // 4), len(whole) // 3 + 1)
    if deviation < 1e-6 or not len(lags):
        return None
    rest = np.clip(rest, -3 * deviation, 3 * deviation)
    products = np.correlate(rest, rest, "full")[len(rest) - 1 :]
    likeness = products[lags] / (len(rest) - lags) / float((rest**2).mean())  # autocorrelation
    best = float(likeness.max())
    if best < LEAST_REPETITION:
        return None
    return int(lags[np.flatnonzero(likeness >= 0.8 * best)[0]]) * step_seconds
