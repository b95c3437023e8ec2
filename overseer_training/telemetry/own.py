"""Questions about this machine itself: rows out of its past, tasks out of the newest part, a window up to now for an outlook.

Takes a recording of this machine, or the store; gives `Example`s, tasks, windows. Nothing that a task shows or asks about is in a row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from overseer_training.errors import UsageError
from overseer_training.records import Example, Platform
from overseer_training.telemetry.combination import adapt, packaged
from overseer_training.telemetry.examples import as_row, tasks_of
from overseer_training.telemetry.questions import HOURS_SHOWN, LEAST_KNOWN, known_part, known_share
from overseer_training.telemetry.recordings import Recording
from overseer_training.telemetry.store import Store

SOURCE = "telemetry/this-machine"  # what stands before the slash is what the access policy decides about
HELD_BACK_SHARE = 0.2  # of the time that was recorded, the newest
LEAST_HOURS_HELD_BACK = 8  # a window of six, an hour that follows, and one to move in: telemetry of 40 hours
HELD_BACK_QUESTIONS = 60
FITTED_QUESTIONS = 240  # that the forecaster is fitted further to


def split_newest(recording: Recording) -> tuple[Recording, Recording] | None:
    """(what came before, the newest part); None where too little was recorded for both."""
    cut = len(recording) - round(len(recording) * HELD_BACK_SHARE)
    if len(recording) - cut < LEAST_HOURS_HELD_BACK * recording.steps_per_hour:
        return None
    return _part(recording, 0, cut), _part(recording, cut, len(recording))


def own_rows(older: Recording, number: int, seed: int, platform: Platform) -> list[Example]:
    """At most `number` different rows about `older`, whose answers are those of the packaged forecaster fitted further to it."""
    best = adapt(packaged(), tasks_of([older], FITTED_QUESTIONS, seed))
    rows = [as_row(task, best, SOURCE, platform) for task in tasks_of([older], number, seed + 1)]
    return list({row.query: row for row in rows}.values())


def held_back_tasks(newest: Recording, seed: int) -> list[dict[str, Any]]:
    """At most `HELD_BACK_QUESTIONS` tasks about `newest`."""
    tasks = tasks_of([newest], HELD_BACK_QUESTIONS, seed)
    return list({str((task["window"], task["question"])): task for task in tasks}.values())


def newest_window(store: Store, now: float) -> dict[str, Any]:
    """The longest window before `now` of those that questions show, and of its series those that were measured as questions require.

    A longer one would be filled up with a past that nobody measured, against which anything looks abnormal.

    Raises:
        UsageError: not even the shortest has a series that is known well enough.
    """
    for hours in sorted(HOURS_SHOWN, reverse=True):
        window = store.window(now, hours)
        known = known_part(window)
        if known["series"]:
            return known
    share = max(map(known_share, window["series"].values()), default=0.0)
    raise UsageError(
        f"an outlook needs {LEAST_KNOWN:.0%} of the last {hours} hours of telemetry, there are {share * hours * 60:.0f} minutes; "
        "come back later, and let the collector run: overseer telemetry start"
    )


def _part(recording: Recording, start: int, end: int) -> Recording:
    series = {name: values[start:end] for name, values in recording.series.items()}
    return dataclasses.replace(
        recording, start=recording.start + start * recording.step_seconds, series=series, incidents=None
    )
