"""One assignment at a time: from the ledger where it was answered before, else from the teacher, within a budget.

Overload, timeouts and cut connections are tried again after a growing pause; answers that do not have the form are asked for again with
another seed, and set aside after that. A teacher that stays away is not asked again in this run.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import time

from overseer_training.guards.secrets import find_secret
from overseer_training.teachers.ledger import Entry, Ledger, key_of
from overseer_training.teachers.protocol import Reply, Teacher, TeacherError
from overseer_training.teachers.write import Assignment, MalformedAnswerError, Proposal, read_answer

LONGEST_PAUSE_SECONDS = 60.0  # chosen: also where a server asks for more


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a run may cost; None is no limit. Answers in the ledger cost nothing. The last request may go over.

    Attributes:
        requests: sent, those that failed included.
        tokens: read and written by teachers.
        seconds: since the run began.
    """

    requests: int | None = None
    tokens: int | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Patience:
    """How often to try again.

    Attributes:
        forms: requests in all until an answer has the right form.
        failures: requests in all until one does not fail for a reason that may pass.
        pause_seconds: before the second of them; doubled each time, times a random factor of 0.5 to 1.
    """

    forms: int = 3
    failures: int = 5
    pause_seconds: float = 1.0


class BudgetSpentError(TeacherError):
    """The budget does not allow another request."""


class SetAsideError(Exception):
    """This assignment gets no usable answer; the message is the reason."""


@dataclasses.dataclass
class RequestCounts:
    """What was asked; asked + from_ledger = answered + malformed + failed.

    Attributes:
        from_ledger: answers that an earlier run had paid for.
        tokens: of requests of this run, read and written.
    """

    asked: int = 0
    from_ledger: int = 0
    answered: int = 0
    malformed: int = 0
    failed: int = 0
    tokens: int = 0

    def is_balanced(self) -> bool:
        return self.asked + self.from_ledger == self.answered + self.malformed + self.failed


@dataclasses.dataclass(frozen=True)
class Asked:
    """What came of an assignment, and the ledger's entry of it."""

    proposals: list[Proposal]
    entry: Entry


class Asker:
    """Asks any number of teachers for one run."""

    def __init__(self, ledger: Ledger, budget: Budget, patience: Patience, seed: int = 0) -> None:
        self.counts = RequestCounts()
        self._ledger = ledger
        self._budget = budget
        self._patience = patience
        self._seed = seed
        self._random = random.Random(seed)
        self._started = time.monotonic()
        self._gone: dict[tuple[str, str], TeacherError] = {}

    def ask(self, teacher: Teacher, assignment: Assignment) -> Asked:
        """The proposals of `teacher`.

        Raises:
            SetAsideError: every answer was malformed, the teacher refuses this request, or it holds a secret.
            BudgetSpentError: it would take another request.
            TeacherError: the teacher cannot be used any more.
        """
        messages = assignment.messages()
        secret = next((kind for message in messages if (kind := find_secret(message["content"]))), None)
        if secret is not None:
            raise SetAsideError(f"holds a secret ({secret}), so it was not sent")
        problem = ""
        for attempt in range(self._patience.forms):
            entry = self._answer(teacher, assignment, self._seed + attempt)
            try:
                proposals = read_answer(assignment, entry.text)
            except MalformedAnswerError as error:
                self.counts.malformed += 1
                problem = str(error)
                continue
            self.counts.answered += 1
            return Asked(proposals, entry)
        raise SetAsideError(f"malformed {self._patience.forms} times: {problem}")

    def _answer(self, teacher: Teacher, assignment: Assignment, seed: int) -> Entry:
        schema, tokens = assignment.json_schema(), assignment.max_tokens
        key = key_of(teacher, assignment.messages(), schema, tokens, assignment.temperature, seed)
        entry = self._ledger.find(key)
        if entry is not None:
            self.counts.from_ledger += 1
            return entry
        reply, seconds = self._reply(teacher, assignment, seed)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = Entry(
            key,
            teacher.name,
            teacher.model,
            assignment.id,
            reply.text,
            reply.prompt_tokens,
            reply.reply_tokens,
            seconds,
            now,
        )
        self._ledger.add(entry)
        return entry

    def _reply(self, teacher: Teacher, assignment: Assignment, seed: int) -> tuple[Reply, float]:
        """An answer and the seconds it took, after as many failures as patience allows."""
        place = (teacher.name, teacher.model)
        pause = self._patience.pause_seconds
        for failures in range(1, self._patience.failures + 1):
            self._check_budget()
            if place in self._gone:
                raise self._gone[place]
            self.counts.asked += 1
            began = time.monotonic()
            try:
                reply = teacher.complete(
                    assignment.messages(),
                    assignment.json_schema(),
                    max_tokens=assignment.max_tokens,
                    temperature=assignment.temperature,
                    seed=seed,
                )
            except TeacherError as error:
                self.counts.failed += 1
                if error.is_about_request:
                    raise SetAsideError(str(error)) from error
                if not error.is_temporary or failures == self._patience.failures:
                    self._gone[place] = error
                    raise
                self._pause(max(pause * self._random.uniform(0.5, 1), error.retry_after_seconds or 0))
                pause *= 2
                continue
            self.counts.tokens += reply.prompt_tokens + reply.reply_tokens
            return reply, round(time.monotonic() - began, 3)
        raise ValueError("patience allows no request")

    def _pause(self, seconds: float) -> None:
        seconds = min(seconds, LONGEST_PAUSE_SECONDS)
        if self._budget.seconds is not None:
            seconds = min(seconds, max(0.0, self._started + self._budget.seconds - time.monotonic()))
        time.sleep(seconds)

    def _check_budget(self) -> None:
        budget, elapsed = self._budget, time.monotonic() - self._started
        for limit, spent, unit in (
            (budget.requests, self.counts.asked, "requests"),
            (budget.tokens, self.counts.tokens, "tokens"),
            (budget.seconds, elapsed, "seconds"),
        ):
            if limit is not None and spent >= limit:
                raise BudgetSpentError(f"the budget of {limit:g} {unit} is spent; a larger one allows more")
