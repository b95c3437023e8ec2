"""Measures whether bf16 matrix products are faster than fp32 ones on this machine's processor."""

from __future__ import annotations

import time

import torch

SIZE = 1024
REPEATS = 4
WORTHWHILE = 1.2  # chosen: below it, fp32's exactness is worth more


def measure_bf16_gain() -> float:
    """How many times faster bf16 products are; takes about a tenth of a second. The best of some repeats, as machines are shared."""
    return _best_seconds(torch.float32) / _best_seconds(torch.bfloat16)


def _best_seconds(dtype: torch.dtype) -> float:
    left = torch.full((SIZE, SIZE), 0.5, dtype=dtype)
    left @ left
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - started)
    return best
