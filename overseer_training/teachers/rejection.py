"""Rejection sampling: the student answers each request several times, and learns from the right ones among its own answers.

How it answers and what is right are handed in. The most frequent right command of a request is kept: several would contradict each other.
Source: Yuan et al., "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models", 2023, section 3.3; differs in
keeping one answer of each request.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
from collections.abc import Callable, Sequence

from overseer_training.records import Turn
from overseer_training.teachers.agreement import most_given
from overseer_training.teachers.rows import Provenance, TaughtRow
from overseer_training.teachers.sieve import Sieve
from overseer_training.teachers.write import PROMPT_VERSION, Assignment, Proposal

Generate = Callable[[Sequence[str], int], Sequence[Sequence[str]]]  # requests, k -> k commands for each


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What sampling gave.

    Attributes:
        solved: requests with at least one right command, of `n`; kept or not.
        always_solved: requests all of whose samples are right: the student has nothing to learn there.
    """

    rows: list[TaughtRow]
    n: int
    solved: int
    always_solved: int


def sample(
    assignments: Sequence[Assignment],
    generate: Generate,
    is_right: Callable[[Assignment, str], bool],
    sieve: Sieve,
    *,
    samples: int,
    student: str,
) -> Sampled:
    """Keep the right command of each request that most samples have (`agreement.most_given`).

    Args:
        assignments: of the kind `answer`, made by `write.answer`; their reference decides between equally frequent commands.
        is_right: whether a command has the right effect; each different command of a request is looked at once.
        sieve: decides on secrets, held-out requests and repetitions; its counts and reasons say what went.
        samples: of each request.
        student: name of the model, for provenance.
    """
    if samples < 1:
        raise ValueError("at least one sample is needed")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rows: list[TaughtRow] = []
    solved = always_solved = 0
    answers = generate([assignment.values["request"] for assignment in assignments], samples)
    for assignment, commands in zip(assignments, answers, strict=True):
        times = collections.Counter(stripped for command in commands if (stripped := command.strip()))
        right = {command: number for command, number in times.items() if is_right(assignment, command)}
        if not right:
            continue
        solved += 1
        always_solved += all(command.strip() in right for command in commands)
        command = most_given(right, assignment.values.get("reference", ""))
        turns = (Turn("user", assignment.values["request"]), Turn("assistant", command))
        row = sieve.sift(
            Proposal(assignment, 0, turns, (command,), None),
            Provenance((student,), PROMPT_VERSION, now, assignment.id),
        )
        rows += [row] if row is not None else []
    return Sampled(rows, len(assignments), solved, always_solved)
