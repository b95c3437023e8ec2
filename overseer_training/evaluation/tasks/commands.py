"""Runs proposals of command, dialogue and repair tasks beside the references: they must do the same as one of them."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Iterator

from overseer_training.errors import SandboxError
from overseer_training.evaluation.compare import Verdict, compare
from overseer_training.evaluation.questions import Question
from overseer_training.evaluation.sandbox import Execution, Fixture, Sandbox
from overseer_training.evaluation.suite import Task
from overseer_training.prompts import REPAIR_REQUEST, with_system
from overseer_training.records import Turn

NOT_FOUND = re.compile(r": ([^\s:]+): command not found")
FRESH_SECONDS = 1.0  # chosen; the finest time that commands usually print


def questions(task: Task) -> Iterator[Question]:
    """What a model is asked in `task`: one question, or one for each turn of a dialogue, with the references as its history.

    Turns that depend on earlier ones are asked once more without any history: a model that needs none has not understood a context.
    """
    fields = task.fields
    if task.kind == "dialogue":
        history: list[Turn] = []
        before: list[str] = []
        for number, turn in enumerate(fields["turns"], start=1):
            asked = Turn("user", turn["query"])
            question = Question(
                id=f"{task.id}#{number}",
                kind="dialogue",
                cluster=task.cluster,
                query=turn["query"],
                messages=with_system([*history, asked], task.platform),
                fixture=fields["fixture"],
                references=tuple(turn["references"]),
                before=tuple(before),
                depends=(turn.get("depends") or "unknown") if number > 1 else "",
            )
            yield question
            if number > 1 and question.depends != "topic":
                alone = with_system([asked], task.platform)
                yield dataclasses.replace(question, id=f"{question.id}/alone", messages=alone, is_control=True)
            history += [asked, Turn("assistant", question.references[0])]
            before.append(question.references[0])
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
        self._references: dict[tuple[str, tuple[str, ...], str], _ReferenceRuns] = {}
        self._lock = threading.Lock()

    def score(self, question: Question, command: str) -> Verdict | str:
        """The verdict of the reference that agrees, or of the first one; a text says why the question cannot be scored here."""
        if not command.strip():
            return Verdict(False, "no command")
        fixture = self._fixtures.get(question.fixture)
        if fixture is None:
            return f"fixture {question.fixture} could not be built"
        try:
            return self._score(question, fixture, command)
        except SandboxError as error:
            return f"could not be run: {error}"

    def _score(self, question: Question, fixture: Fixture, command: str) -> Verdict | str:
        if self._is_prose(question, command):
            return Verdict(False, f"there is no program {command.split()[0]}")
        runs = {text: self._run_reference(question, fixture, text) for text in question.references}
        missing = next((found for found in map(_missing_program, runs.values()) if found), "")
        same = next((text for text in runs if text.strip() == command.strip()), None)
        if same is not None and not _missing_program(runs[same]):
            return Verdict(True, "the same command")
        try:
            proposal = self._sandbox.run(fixture, command, before=question.before)
        except ValueError as error:  # signs that no file can hold
            return Verdict(False, f"could not be run: {error}")
        untouched = self._run_reference(question, fixture, ":").latest
        first: Verdict | None = None
        for text, known in runs.items():
            if _missing_program(known):
                continue
            verdict = compare(text, known.latest, proposal, known.earlier, untouched)
            may_be_stale = verdict.reason == "other output" and any(sign.isdigit() for sign in known.latest.stdout)
            if may_be_stale and time.monotonic() - known.seconds > FRESH_SECONDS:
                # The reference may print the time, and it ran a while ago.
                fresh = self._run_reference(question, fixture, text, renew=True)
                verdict = compare(text, fresh.latest, proposal, fresh.earlier, untouched)
            if verdict.equal:
                return verdict
            first = first or verdict
        # Where one reference could not be run, nobody knows whether the proposal does what it does.
        return f"this machine has no {missing}" if missing or first is None else first

    def _is_prose(self, question: Question, command: str) -> bool:
        """Whether the first word is no program of any kind; then nothing needs to be run."""
        word = command.split()[0]
        is_known = word in " ".join(question.references) or self._sandbox.has_program(word)
        return re.fullmatch(r"[A-Za-z][\w-]*", word) is not None and not is_known

    def _run_reference(self, question: Question, fixture: Fixture, command: str, renew: bool = False) -> _ReferenceRuns:
        key = (question.fixture, question.before, command)
        with self._lock:
            known = self._references.get(key)
        if known is None or renew:
            started = time.monotonic()
            earlier = known.latest if known else self._sandbox.run(fixture, command, before=question.before)
            known = _ReferenceRuns(earlier, self._sandbox.run(fixture, command, before=question.before), started)
            with self._lock:
                self._references[key] = known
        return known


@dataclasses.dataclass(frozen=True)
class _ReferenceRuns:
    """Two runs of one reference, and when the later one was started, by the monotonic clock."""

    earlier: Execution
    latest: Execution
    seconds: float


def _missing_program(runs: _ReferenceRuns) -> str:
    missing = NOT_FOUND.search(runs.latest.stderr)
    return missing.group(1) if missing else ""
