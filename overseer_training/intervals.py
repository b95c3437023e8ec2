"""Means with 95 % intervals that know about clusters: wordings of one family are not independent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from overseer_training.records import Score

RESAMPLES = 2000
Z95 = 1.959964


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion. Source: Wilson, 1927."""
    share = successes / n
    denominator = 1 + Z95**2 / n
    center = (share + Z95**2 / (2 * n)) / denominator
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / denominator
    return max(0.0, center - half), min(1.0, center + half)


def cluster_interval(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """95 % interval of the mean by resampling whole clusters; always the same for the same input.

    Source: percentile bootstrap over clusters, Davison and Hinkley, 1997, section 3.8.
    """
    names = sorted(set(clusters))
    index = {name: number for number, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for value, cluster in zip(values, clusters, strict=True):
        sums[index[cluster]] += value
        counts[index[cluster]] += 1
    draws = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def score_outcomes(outcomes: Sequence[bool | None], clusters: Sequence[str], reason: str = "") -> Score:
    """A proportion with its interval; None is unscored.

    The wider of both intervals is taken: resampling is too narrow when all values are equal.
    """
    scored = [(bool(value), cluster) for value, cluster in zip(outcomes, clusters, strict=True) if value is not None]
    unscored = len(outcomes) - len(scored)
    if not scored:
        return Score(0, None, None, unscored, reason)
    values = [float(value) for value, _ in scored]
    low, high = wilson_interval(int(sum(values)), len(values))
    cluster_low, cluster_high = cluster_interval(values, [cluster for _, cluster in scored])
    interval = (min(low, cluster_low), max(high, cluster_high))
    return Score(len(values), sum(values) / len(values), interval, unscored, reason)


def score_means(sums: Sequence[float], weights: Sequence[float]) -> Score:
    """The weighted mean of rows with its interval; row i adds `sums[i]` over `weights[i]` units."""
    totals, counts = np.array(sums), np.array(weights)
    if not len(totals):
        return Score(0, None, None)
    draws = np.random.default_rng(0).integers(0, len(totals), (RESAMPLES, len(totals)))
    means = totals[draws].sum(1) / counts[draws].sum(1)
    interval = (float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))
    return Score(len(totals), float(totals.sum() / counts.sum()), interval)
