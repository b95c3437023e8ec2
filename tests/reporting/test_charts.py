"""Chart geometry stays inside its plot and keeps what matters of the data."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.reporting.charts import Line, draw_chart, nice_ticks, smooth, thin

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def coordinates(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.e-]+) (-?[\d.e-]+)", path)]


@given(st.lists(FINITE, min_size=1, max_size=50))
def test_a_line_never_leaves_its_plot(values: list[float]) -> None:
    points = [(float(step), value) for step, value in enumerate(values)]
    chart = draw_chart("Loss", "nats", [Line("training", points, "main")], str, str)
    assert chart is not None
    for x, y in coordinates(chart.lines[0].path):
        assert 0 <= x <= 100 and 0 <= y <= 100


def test_slices_cover_the_plot_and_tell_each_value() -> None:
    points = [(float(step), step / 10) for step in range(1, 301)]
    chart = draw_chart("Loss", "nats", [Line("training", points, "main")], lambda value: f"{value:.1f}", str)
    assert chart is not None
    assert chart.slices[0].left == 0
    assert sum(one.width for one in chart.slices) == pytest.approx(100, abs=0.5)
    assert chart.slices[0].title == "step 1\ntraining: 0.1"


def test_nothing_measured_means_no_chart() -> None:
    assert draw_chart("Loss", "nats", [Line("training", [], "main")], str, str) is None


def test_one_spike_of_a_raw_line_does_not_flatten_the_rest() -> None:
    points = [(float(step), 1000.0 if step == 50 else 1.0 + step / 100) for step in range(200)]
    chart = draw_chart("Loss", "nats", [Line("training", points, "raw")], str, str)
    assert chart is not None
    heights = [y for _, y in coordinates(chart.lines[0].path) if 0 <= y <= 100]
    assert max(heights) - min(heights) > 80


def test_thinning_keeps_the_ends_and_the_extremes() -> None:
    points = [(float(step), 99.0 if step == 4321 else 1.0) for step in range(10_000)]
    kept = thin(points, most=100)
    assert len(kept) <= 110
    assert kept[0] == points[0] and kept[-1] == points[-1] and (4321.0, 99.0) in kept


def test_smoothing_does_not_lag_behind_a_straight_line() -> None:
    points = [(float(step), 3.0 * step) for step in range(100)]
    for (_, value), (_, smoothed) in zip(points[:90], smooth(points, span=20)[:90], strict=True):
        assert smoothed == pytest.approx(value)


@given(st.floats(-1e5, 1e5), st.floats(1e-4, 1e5), st.integers(2, 8))
def test_ticks_are_inside_their_range_and_few(low: float, width: float, about: int) -> None:
    ticks = nice_ticks(low, low + width, about)
    assert len(ticks) <= 2 * about + 2
    assert all(low - 1e-6 * width - 1e-6 <= tick <= low + width + 1e-6 * width + 1e-6 for tick in ticks)
