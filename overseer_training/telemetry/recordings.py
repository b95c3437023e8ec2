"""The nouns of this room: a machine's series on a regular grid, and what went wrong in it.

Takes nothing from other files of this room.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Split = Literal["train", "validation", "test"]
STEP_SECONDS = 300
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1  # of imported series; chosen


@dataclasses.dataclass(frozen=True)
class Incident:
    """Something that happened in steps start <= step < end.

    Attributes:
        cause: one of `questions.CAUSES`, or `restart` or `unknown`.
        metric: where it shows most; empty when that is not known.
    """

    cause: str
    metric: str
    start: int
    end: int

    @property
    def is_abnormal(self) -> bool:
        return self.cause != "periodic_job"


@dataclasses.dataclass(frozen=True)
class Recording:
    """What one machine did.

    Attributes:
        name: of the machine or file; everything from it is on one side of a split.
        start: of the first step, seconds since 1970.
        series: metric -> (steps,) means of each step; NaN where nothing was measured.
        incidents: None when nobody has labelled this recording.
    """

    name: str
    start: float
    step_seconds: int
    series: dict[str, Values]
    incidents: tuple[Incident, ...] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.series.values()), ()))

    @property
    def steps_per_hour(self) -> int:
        """At least 1, also for coarser grids."""
        return max(1, round(3600 / self.step_seconds))


def split_of(name: str) -> Split:
    """The split of an imported recording; a function of its name alone."""
    position = seed_of(f"split:{name}") / 2**64
    if position < TEST_SHARE:
        return "test"
    return "validation" if position < TEST_SHARE + VALIDATION_SHARE else "train"


def seed_of(name: str) -> int:
    """A seed of 64 bits that depends on `name` alone, on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
