"""What the collector has stored about this machine, as arrays: spans of time, 5-minute means, a recording.

Takes rows of the telemetry store, samples and means; gives values. Changes nothing in the store.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from overseer_training.telemetry.background import DATABASE
from overseer_training.telemetry.recordings import STEP_SECONDS, Recording, Values
from overseer_training.telemetry.store import (
    DAY_SECONDS,
    DEFAULT_LIMIT_BYTES,
    MEAN_SECONDS,
    MEANS_DAYS,
    METRICS,
    SHOWN,
    Store,
)

THIS_MACHINE = "this-machine"


@dataclasses.dataclass(frozen=True)
class Stored:
    """Rows oldest first. A sample is of an instant, a mean of the 5 minutes from its start on.

    Attributes:
        starts, ends: (rows,) seconds since 1970; equal for samples.
        values: metric -> (rows,); NaN where it was not measured.
    """

    starts: Values
    ends: Values
    values: Mapping[str, Values]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Stored:
        """Of what `Store.rows` gives."""
        table = np.array(
            [
                (row["time"], row["time"] + MEAN_SECONDS * (row["resolution"] == "mean"), *map(row.get, METRICS))
                for row in rows
            ],
            dtype=np.float64,
        ).reshape(-1, 2 + len(METRICS))
        # The store keeps no more; a clock that was wrong for a while may have left times of another year.
        table = table[table[:, 0] >= table[:, 0].max(initial=0.0) - (MEANS_DAYS + 3) * DAY_SECONDS]
        return cls(table[:, 0], table[:, 1], dict(zip(METRICS, table[:, 2:].T, strict=True)))

    def __len__(self) -> int:
        return len(self.starts)

    def between(self, metric: str, start: float, end: float) -> Values:
        """Known values of the rows that lie wholly in start <= time < end."""
        first, last = np.searchsorted(self.starts, (start, end))
        found = self.values[metric][first:last][self.ends[first:last] <= end]
        return found[np.isfinite(found)]

    @functools.cached_property
    def _places(self) -> Any:
        """(rows,) which 5-minute step since the first each row is in."""
        return ((self.starts - self.grid_start) // STEP_SECONDS).astype(np.int64)

    @property
    def grid_start(self) -> float:
        """Of the first 5-minute step, seconds since 1970; 0 where there are no rows."""
        return float(self.starts[0] // STEP_SECONDS * STEP_SECONDS) if len(self) else 0.0

    def means(self, metric: str) -> Values:
        """(steps,) 5-minute means from `grid_start` on; NaN where nothing was measured."""
        values = self.values[metric]
        known = np.isfinite(values)
        steps = int(self._places.max(initial=-1)) + 1
        counts = np.bincount(self._places[known], minlength=steps)
        sums = np.bincount(self._places[known], weights=values[known], minlength=steps)
        means: Values = np.divide(sums, counts, out=np.full(steps, np.nan), where=counts > 0)
        return means

    def as_recording(self) -> Recording:
        """What this machine did, without its last step, which may still go on; nobody has labelled it."""
        series = {name: self.means(name)[:-1] for name in SHOWN if name in self.values}
        traffic = self.means("network_received_mbit") + self.means("network_sent_mbit")
        series["network_mbit"] = traffic[:-1]
        known = {name: values for name, values in series.items() if np.isfinite(values).any()}
        return Recording(THIS_MACHINE, self.grid_start, STEP_SECONDS, known)


def read_stored(folder: pathlib.Path) -> Stored | None:
    """What the collector of `folder` has stored; None where it never ran.

    Raises:
        DataError: the database is damaged.
    """
    database = folder / DATABASE
    if not database.is_file():
        return None
    with Store(database, max(DEFAULT_LIMIT_BYTES, 2 * database.stat().st_size)) as store:
        return Stored.from_rows(store.rows())
