"""Intervals against known values."""

from __future__ import annotations

import pytest

from overseer_training.intervals import cluster_interval, score_outcomes, wilson_interval


def test_wilson_agrees_with_known_values() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_clustered_outcomes_are_less_certain_and_always_the_same() -> None:
    values, clusters = [1.0] * 50 + [0.0] * 50, [str(number // 10) for number in range(100)]
    low, high = cluster_interval(values, clusters)
    wilson = wilson_interval(50, 100)
    assert high - low > wilson[1] - wilson[0]
    assert (low, high) == cluster_interval(values, clusters)


def test_unscored_is_not_wrong() -> None:
    score = score_outcomes([True, None, True], ["a", "b", "c"], "no bwrap")
    assert (score.n, score.value, score.unscored, score.reason) == (2, 1.0, 1, "no bwrap")
    assert score_outcomes([None], ["a"], "why").value is None
