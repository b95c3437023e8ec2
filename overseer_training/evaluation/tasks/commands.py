"""Command, dialogue and repair tasks: the proposal is run beside the references, and must do the same as one of them."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator

from overseer_training.errors import SandboxError
from overseer_training.evaluation.compare import Verdict, compare
from overseer_training.evaluation.sandbox import Execution, Fixture, Sandbox
from overseer_training.evaluation.suite import Task
from overseer_training.prompts import REPAIR_REQUEST, with_system
from overseer_training.records import Turn

NOT_FOUND = re.compile(r": ([^\s:]+): command not found")


@dataclasses.dataclass(frozen=True)
class Question:
    """One answer that is wanted of a model.

    Attributes:
        id: of the task, with the number of the turn where it has several.
        before: commands that made the state in which the answer runs.
        is_later_turn: whether it follows up on an earlier request.
    """

    id: str
    kind: str
    cluster: str
    query: str
    messages: list[dict[str, str]]
    fixture: str
    references: tuple[str, ...]
    before: tuple[str, ...] = ()
    is_later_turn: bool = False


def questions(task: Task) -> Iterator[Question]:
    """What a model is asked in `task`: one question, or one for each turn of a dialogue (with the references as its history)."""
    fields = task.fields
    if task.kind == "dialogue":
        history: list[Turn] = []
        before: list[str] = []
        for number, turn in enumerate(fields["turns"]):
            messages = with_system([*history, Turn("user", turn["query"])], task.platform)
            identity = f"{task.id}#{number + 1}"
            references = tuple(turn["references"])
            yield Question(
                identity,
                "dialogue",
                task.cluster,
                turn["query"],
                messages,
                fields["fixture"],
                references,
                tuple(before),
                number > 0,
            )
            history += [Turn("user", turn["query"]), Turn("assistant", references[0])]
            before.append(references[0])
        return
    query = (
        fields["query"]
        if task.kind == "command"
        else REPAIR_REQUEST.format(
            command=fields["failed"], stderr=fields["stderr"].strip(), exit_code=fields["exit_code"]
        )
    )
    messages = with_system([Turn("user", query)], task.platform)
    yield Question(task.id, task.kind, task.cluster, query, messages, fields["fixture"], tuple(fields["references"]))


class CommandScorer:
    """Runs proposals; remembers what references did, so that base and trained model share them."""

    def __init__(self, sandbox: Sandbox, fixtures: dict[str, Fixture]) -> None:
        self._sandbox, self._fixtures = sandbox, fixtures
        self._references: dict[tuple[str, tuple[str, ...], str], tuple[Execution, Execution]] = {}
        self._lock = threading.Lock()

    def score(self, question: Question, command: str) -> Verdict | str:
        """The verdict of the reference that agrees, or of the first one; a text says why the question cannot be scored here."""
        if not command.strip():
            return Verdict(False, "no command")
        fixture = self._fixtures.get(question.fixture)
        if fixture is None:
            return f"fixture {question.fixture} could not be built"
        if command.strip() == question.references[0].strip():
            # The same text does the same; it is still run once, so that a missing program stays unscored for everybody.
            reference = self._run_reference(question, question.references[0])
            return reference if isinstance(reference, str) else Verdict(True, "the same command")
        try:
            proposal = self._sandbox.run(fixture, command, before=question.before)
        except (SandboxError, ValueError) as error:
            return Verdict(False, f"could not be run: {error}")
        first: Verdict | None = None
        for reference_command in question.references:
            reference = self._run_reference(question, reference_command)
            if isinstance(reference, str):
                return reference
            execution, again = reference
            verdict = compare(reference_command, execution, proposal, again)
            if verdict.equal:
                return verdict
            first = first or verdict
        assert first is not None
        return first

    def _run_reference(self, question: Question, command: str) -> tuple[Execution, Execution] | str:
        key = (question.fixture, question.before, command)
        with self._lock:
            known = self._references.get(key)
        if known is None:
            fixture = self._fixtures[question.fixture]
            known = (
                self._sandbox.run(fixture, command, before=question.before),
                self._sandbox.run(fixture, command, before=question.before),
            )
            with self._lock:
                self._references[key] = known
        missing = NOT_FOUND.search(known[0].stderr)
        return f"this machine has no {missing.group(1)}" if missing else known
