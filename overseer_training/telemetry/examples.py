"""Prediction questions by the hundred: rows to learn from and tasks to be measured with, on machines that never cross a split.

Takes simulated machines and, where given, recordings of real ones; gives tasks and `Example`s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from overseer_training.records import Example, Platform, Turn
from overseer_training.telemetry.combination import Combination, packaged
from overseer_training.telemetry.questions import HOURS_SHOWN, ask, future_of, kinds_for
from overseer_training.telemetry.recordings import Recording, Split, seed_of, split_of
from overseer_training.telemetry.simulate import simulate
from overseer_training.telemetry.wording import render, render_answer

SOURCE = "telemetry"
QUESTIONS_A_MACHINE = 20
IMPORTED_SHARE = 0.3  # of the questions, where recordings are given; chosen
TRIES = 400  # places looked at for one question that fits
LARGEST_SHARE = {"threshold": 0.5, "anomaly": 0.5, "cause": 1 / 6}  # of one answer among the answers of a kind


def examples(number: int, seed: int, split: Split, recordings: Sequence[Recording] = ()) -> list[Example]:
    """`number` rows of the skill `prediction`; the same arguments give the same rows.

    A row's answer to `threshold` and `forecast` is what the forecaster says that its prompt quotes (`combination.packaged`), since what
    then happened is chance in part; answers to the other types are what was.

    Args:
        recordings: of real machines; only those whose name is in `split` are used, for 0.3 of the rows.
    """
    best = packaged()
    return [as_row(task, best, SOURCE) for task in tasks(number, seed, split, recordings)]


def as_row(task: Mapping[str, Any], best: Combination, source: str, platform: Platform = "linux") -> Example:
    """The row of one task; what `best` answers is the answer to `threshold` and `forecast`."""
    window, question = task["window"], task["question"]
    said = best.answer(window, question) if question["type"] in ("threshold", "forecast") else task["answer"]
    turns = (Turn("user", render(window, question)), Turn("assistant", render_answer(question, said)))
    return Example(task["id"], f"telemetry/{task['machine']}", "prediction", turns, platform, source)


def tasks(number: int, seed: int, split: Split, recordings: Sequence[Recording] = ()) -> list[dict[str, Any]]:
    """`number` tasks in the form of a suite, the four types in turn, with answers as balanced as the machines allow."""
    own = [one for one in recordings if split_of(one.name) == split]
    rng = np.random.default_rng(seed_of(f"questions:{seed}:{split}"))
    real = round(number * IMPORTED_SHARE) if own else 0
    made = list(_draw(_simulated(seed, split), number - real, rng))
    return made + list(_draw(_in_turn(own), real, rng))


def tasks_of(recordings: Sequence[Recording], number: int, seed: int) -> list[dict[str, Any]]:
    """At most `number` tasks from `recordings` alone, whatever split they are in: for measuring on data nobody trained on."""
    return list(_draw(_in_turn(recordings), number, np.random.default_rng(seed)))


def _simulated(seed: int, split: Split) -> Iterator[Recording]:
    machine = 0
    while True:
        yield simulate(f"simulated-{seed}-{split}-{machine}")
        machine += 1


def _in_turn(recordings: Sequence[Recording]) -> Iterator[Recording]:
    while recordings:
        yield from recordings


def _draw(machines: Iterator[Recording], number: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Questions from each machine in turn; an answer that is common already has to wait."""
    given: dict[tuple[str, str], int] = {}
    made = fruitless = 0
    while made < number:
        recording = next(machines, None)
        if recording is None or fruitless > 50:  # recordings that are too short, or have no labels, give less
            return
        before, kinds = made, kinds_for(recording)
        for attempt in range(min(QUESTIONS_A_MACHINE, number - made)):
            kind = kinds[attempt % len(kinds)]
            task = _question(recording, kind, given, rng)
            if task is not None:
                yield {
                    "id": f"prediction/{recording.name}/{made}",
                    "kind": "prediction",
                    "machine": recording.name,
                    **task,
                }
                made += 1
        fruitless = 0 if made > before else fruitless + 1


def _question(
    recording: Recording, kind: str, given: dict[tuple[str, str], int], rng: np.random.Generator
) -> dict[str, Any] | None:
    for _ in range(TRIES):
        end = _place(recording, kind, rng)
        found = ask(recording, kind, end, int(rng.choice(HOURS_SHOWN)), rng)
        if found is None:
            continue
        window, question, answer = found
        label = str(answer["abnormal"] if kind == "anomaly" else answer) if kind != "forecast" else ""
        total = sum(count for (of, _), count in given.items() if of == kind)
        if kind in LARGEST_SHARE and given.get((kind, label), 0) > LARGEST_SHARE[kind] * total + 1:
            continue
        given[kind, label] = given.get((kind, label), 0) + 1
        return {"window": window, "question": question, "answer": answer, **future_of(recording, question, end)}
    return None


def _place(recording: Recording, kind: str, rng: np.random.Generator) -> int:
    """A step to stand at: in an incident for half of the questions about incidents and a quarter of the others, else anywhere."""
    abnormal = [one for one in recording.incidents or () if one.is_abnormal]
    if abnormal and rng.random() < (0.5 if kind in ("anomaly", "cause") else 0.25):
        incident = abnormal[rng.integers(len(abnormal))]
        return int(rng.integers(incident.start, min(incident.end, len(recording)) + 1))
    return int(rng.integers(min(recording.steps_per_hour, len(recording)), len(recording) + 1))
