"""Hybrid: several teachers and the student answer the same request, and what most of their commands do decides.

Commands are grouped by effect; how an effect is found out is handed in. An author has one vote, however many commands it gave. A group
teaches when more than half of the authors, and at least two, are in it: ties and lone answers teach nothing. Of its commands the one that
most of them gave teaches. Teachers that err alike agree too, so what they agree on can be checked once more.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from overseer_training.records import Example, Turn
from overseer_training.teachers.ask import Asked, Asker, Budget, BudgetSpentError, Patience, SetAsideError
from overseer_training.teachers.protocol import Teacher, TeacherError
from overseer_training.teachers.rows import Provenance, TaughtRow
from overseer_training.teachers.sieve import Check, IsHeldOut, Sieve
from overseer_training.teachers.taught import Notify, Taught, provenance_of, run_assignments
from overseer_training.teachers.write import Assignment, Proposal

EffectOf = Callable[
    [str], Hashable | None
]  # command -> what it does; None where it fails, does nothing or cannot be run
STUDENT = "student"
LEAST_VOTES = 2


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A command that an author proposes."""

    author: str
    command: str


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The decision on one request.

    Attributes:
        command: that which most of the group that won gave (`most_given`); None where none won.
        authors: who voted for its effect, sorted.
        n: authors that gave a command.
        reason: why none won; empty otherwise.
    """

    command: str | None
    authors: tuple[str, ...]
    n: int
    reason: str = ""


def agree(candidates: Sequence[Candidate], effect_of: EffectOf, reference: str = "") -> Agreement:
    """Decide by effect; each different command is looked at once. `reference` is a command that is known to be right."""
    effects = {command: effect_of(command) for command in dict.fromkeys(candidate.command for candidate in candidates)}
    votes: dict[Hashable, list[str]] = collections.defaultdict(list)
    authors = list(dict.fromkeys(candidate.author for candidate in candidates))
    for author in authors:
        effect = _vote([effects[candidate.command] for candidate in candidates if candidate.author == author])
        if effect is not None:
            votes[effect].append(author)
    if not votes:
        return Agreement(None, (), len(authors), "no command had an effect")
    effect, voters = max(votes.items(), key=lambda group: len(group[1]))
    if len(voters) < LEAST_VOTES or 2 * len(voters) <= len(authors):
        return Agreement(None, (), len(authors), f"no majority: {len(voters)} of {len(authors)} at most")
    given = collections.Counter(
        candidate.command
        for candidate in dict.fromkeys(candidates)  # who says the same twice has said it once
        if candidate.author in voters and effects[candidate.command] == effect
    )
    return Agreement(most_given(given, reference), tuple(sorted(voters)), len(authors))


def most_given(times: Mapping[str, int], reference: str = "") -> str:
    """The command that was given most often; of equals `reference`, else the longest, else the first.

    The shortest would be the one that leaves out what does not matter here: `cat` does what `head -n 20` does to a short file.
    """
    return max(times, key=lambda command: (times[command], command == reference, len(command)))


def teach_by_agreement(
    teachers: Sequence[Teacher],
    assignments: Sequence[Assignment],
    folder: pathlib.Path,
    *,
    effect_of: Callable[[Assignment, str], Hashable | None],
    is_held_out: IsHeldOut,
    budget: Budget,
    check: Check = lambda proposal: None,
    student_commands: Mapping[str, Sequence[str]] | None = None,
    known: Iterable[Example] = (),
    patience: Patience = Patience(),  # noqa: B008 (frozen)
    seed: int = 0,
    notify: Notify = lambda message: None,
) -> Taught:
    """Ask all teachers for the same commands; write the rows that they and the student agree on to `folder`.

    Args:
        assignments: each for one command, made by `write.answer` or `write.repair`.
        effect_of: what a command does in the surroundings of an assignment; None as in `EffectOf`.
        check: why the command that they agree on is not right, or None.
        student_commands: assignment id -> what the student answers.
        notify: is told how far it is, and when a teacher is lost.

    Raises:
        TeacherError: no teacher could be used at all.
        UsageError, DataError: as for `teach`.
    """
    sieve = Sieve(check, is_held_out, known)
    lost: set[str] = set()

    def note_loss(author: str, error: TeacherError) -> None:
        if author not in lost:
            lost.add(author)
            notify(f"goes on without {author}: {error}")

    def do(asker: Asker, assignment: Assignment) -> list[TaughtRow]:
        answers = _ask_all(asker, teachers, assignment, note_loss)
        candidates = [
            Candidate(author, command)
            for author, asked in answers.items()
            for command in asked.proposals[0].commands
            if asked.proposals[0].problem is None
        ]
        candidates += [Candidate(STUDENT, command) for command in (student_commands or {}).get(assignment.id, ())]
        reference = assignment.values.get("reference", "")
        agreement = agree(candidates, lambda command: effect_of(assignment, command), reference)
        row = sieve.sift(_decided(assignment, answers, agreement), _provenance(answers, agreement))
        return [] if row is None else [row]

    return run_assignments(assignments, folder, do, sieve, budget=budget, patience=patience, seed=seed, notify=notify)


def _ask_all(
    asker: Asker, teachers: Sequence[Teacher], assignment: Assignment, note_loss: Callable[[str, TeacherError], None]
) -> dict[str, Asked]:
    """Author -> what it answered, of those that did.

    Raises:
        BudgetSpentError: not all could be asked: a vote of some would be another vote in the next run.
        SetAsideError, TeacherError: none answered.
    """
    answers: dict[str, Asked] = {}
    failure: SetAsideError | TeacherError | None = None
    for teacher in teachers:
        author = f"{teacher.name}: {teacher.model}"
        try:
            answers[author] = asker.ask(teacher, assignment)
        except BudgetSpentError:
            raise
        except SetAsideError as error:
            failure = failure or error
        except TeacherError as error:
            note_loss(author, error)
            failure = error
    if not answers and failure is not None:
        raise failure
    return answers


def _decided(assignment: Assignment, answers: Mapping[str, Asked], agreement: Agreement) -> Proposal:
    """The proposal that carries the decision: the request as every answer has it, and the command that won."""
    request = next(iter(answers.values())).proposals[0].turns[:-1]
    command = agreement.command or ""
    return Proposal(assignment, 0, (*request, Turn("assistant", command)), (command,), agreement.reason or None)


def _provenance(answers: Mapping[str, Asked], agreement: Agreement) -> Provenance:
    """Those that voted for the row; all that answered where nobody won."""
    voters = [asked for author, asked in answers.items() if author in agreement.authors]
    provenance = provenance_of(voters or list(answers.values()))
    own = (STUDENT,) if STUDENT in agreement.authors else ()
    return dataclasses.replace(provenance, teachers=(*provenance.teachers, *own))


def _vote(effects: Sequence[Hashable | None]) -> Hashable | None:
    """The effect of most of an author's commands; None where two are equally frequent, or most have none."""
    frequent = collections.Counter(effects).most_common(2)
    is_tie = len(frequent) == 2 and frequent[0][1] == frequent[1][1]
    return None if is_tie else frequent[0][0]
