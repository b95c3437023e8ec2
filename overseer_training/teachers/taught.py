"""The run of a teacher: assignments in, kept rows out, everything that was paid for in the ledger.

A run that stops early (budget, a teacher that went away, kill -9) goes on with the same call: answers come from the ledger, and are
checked again.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from overseer_training.files import write_json, write_text
from overseer_training.records import Example
from overseer_training.teachers.ask import Asked, Asker, Budget, Patience, RequestCounts, SetAsideError
from overseer_training.teachers.ledger import open_ledger
from overseer_training.teachers.protocol import Teacher, TeacherError
from overseer_training.teachers.rows import Provenance, TaughtRow, write_rows
from overseer_training.teachers.sieve import Check, IsHeldOut, ProposalCounts, Sieve
from overseer_training.teachers.write import PROMPT_VERSION, Assignment

Notify = Callable[[str], None]
EVERY_SECONDS = 30.0  # between two notes; chosen: a slow teacher takes as long for one assignment


@dataclasses.dataclass
class AssignmentCounts:
    """What became of assignments; assignments = done + set_aside + not_reached."""

    assignments: int = 0
    done: int = 0
    set_aside: int = 0
    not_reached: int = 0

    def is_balanced(self) -> bool:
        return self.assignments == self.done + self.set_aside + self.not_reached


@dataclasses.dataclass(frozen=True)
class Taught:
    """What a run gave.

    Attributes:
        set_aside: (id of assignment or proposal, reason).
        stopped: why assignments were not reached; None when all were.
    """

    rows: list[TaughtRow]
    set_aside: list[tuple[str, str]]
    assignments: AssignmentCounts
    requests: RequestCounts
    proposals: ProposalCounts
    stopped: str | None

    def counts(self) -> dict[str, Any]:
        """All counts in one mapping, as in counts.json."""
        parts = (self.assignments, self.requests, self.proposals)
        return {name: value for part in parts for name, value in dataclasses.asdict(part).items()}

    def is_balanced(self) -> bool:
        """Whether all three kinds of counts add up."""
        return all(part.is_balanced() for part in (self.assignments, self.requests, self.proposals))


def teach(
    teacher: Teacher,
    assignments: Sequence[Assignment],
    folder: pathlib.Path,
    *,
    check: Check,
    is_held_out: IsHeldOut,
    budget: Budget,
    known: Iterable[Example] = (),
    patience: Patience = Patience(),  # noqa: B008 (frozen)
    seed: int = 0,
    notify: Notify = lambda message: None,
) -> Taught:
    """Have `teacher` do the assignments; write what is kept to `folder`.

    Args:
        check: why the commands of a proposal are not right, or None; called for those that a teacher wrote.
        known: rows that there are already.
        notify: is told now and then how far it is.

    Raises:
        TeacherError: the teacher could not be used at all: nothing was answered in this run or an earlier one.
        UsageError: another run uses `folder`.
        DataError: its ledger cannot be read.
    """
    sieve = Sieve(check, is_held_out, known)

    def do(asker: Asker, assignment: Assignment) -> list[TaughtRow]:
        asked = asker.ask(teacher, assignment)
        sifted = (sieve.sift(proposal, provenance_of([asked])) for proposal in asked.proposals)
        return [row for row in sifted if row is not None]

    return run_assignments(assignments, folder, do, sieve, budget=budget, patience=patience, seed=seed, notify=notify)


def run_assignments(
    assignments: Sequence[Assignment],
    folder: pathlib.Path,
    do: Callable[[Asker, Assignment], list[TaughtRow]],
    sieve: Sieve,
    *,
    budget: Budget,
    patience: Patience,
    seed: int,
    notify: Notify,
) -> Taught:
    """Call `do` for each assignment, with a ledger below it; count, and write `folder`.

    Args:
        do: the rows of one assignment; it raises SetAsideError when there cannot be any, and TeacherError when there are no
            teachers any more.
    """
    counts = AssignmentCounts(len(assignments))
    rows: list[TaughtRow] = []
    set_aside: list[tuple[str, str]] = []
    failure: TeacherError | None = None
    told = time.monotonic()
    with open_ledger(folder / "ledger.jsonl") as ledger:
        asker = Asker(ledger, budget, patience, seed)
        for number, assignment in enumerate(assignments, start=1):
            try:
                rows += do(asker, assignment)
                counts.done += 1
            except SetAsideError as error:
                counts.set_aside += 1
                set_aside.append((assignment.id, str(error)))
            except TeacherError as error:  # later assignments may still be in the ledger
                counts.not_reached += 1
                failure = failure or error
            if time.monotonic() - told >= EVERY_SECONDS:
                told = time.monotonic()
                notify(f"{number} of {len(assignments)} assignments, {len(rows)} rows kept")
        stopped = str(failure) if failure is not None else None
        taught = Taught(rows, [*set_aside, *sieve.refusals], counts, asker.counts, sieve.counts, stopped)
        write_taught(folder, taught)
    if failure is not None and counts.done + counts.set_aside == 0:
        raise failure
    return taught


def provenance_of(asked: Sequence[Asked]) -> Provenance:
    """Where a row comes from that these answers gave."""
    entries = [one.entry for one in asked]
    teachers = tuple(f"{entry.teacher}: {entry.model}" for entry in entries)
    return Provenance(teachers, PROMPT_VERSION, max(entry.time for entry in entries), entries[0].assignment)


def write_taught(folder: pathlib.Path, taught: Taught) -> None:
    """Write rows, what was set aside, and last the counts."""
    write_rows(folder / "rows.jsonl", taught.rows)
    lines = (
        json.dumps({"id": identity, "reason": reason}, ensure_ascii=False) for identity, reason in taught.set_aside
    )
    write_text(folder / "set_aside.jsonl", "".join(f"{line}\n" for line in lines))
    write_json(folder / "counts.json", {**taught.counts(), "stopped": taught.stopped, "prompt_version": PROMPT_VERSION})
