"""Questions about this machine itself: rows to learn from out of its past, tasks to be measured with out of the newest part.

Takes a recording of this machine; gives `Example`s and tasks. Nothing that a task shows or asks about is in a row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from overseer_training.records import Example, Platform
from overseer_training.telemetry.combination import adapt, packaged
from overseer_training.telemetry.examples import as_row, tasks_of
from overseer_training.telemetry.recordings import Recording

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


def _part(recording: Recording, start: int, end: int) -> Recording:
    series = {name: values[start:end] for name, values in recording.series.items()}
    return dataclasses.replace(
        recording, start=recording.start + start * recording.step_seconds, series=series, incidents=None
    )
