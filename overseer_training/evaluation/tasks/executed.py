"""Command, dialogue and repair tasks: asked, run in the sandbox, and summed up by metric."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Sequence

from overseer_training.errors import SandboxError
from overseer_training.evaluation.compare import Verdict
from overseer_training.evaluation.questions import Answer, Question
from overseer_training.evaluation.sandbox import Fixture, Sandbox, find_sandbox
from overseer_training.evaluation.suite import EXECUTED_KINDS, Suite
from overseer_training.evaluation.tasks.commands import CommandScorer, questions
from overseer_training.intervals import score_outcomes
from overseer_training.models.generate import extract_command
from overseer_training.records import Score

METRICS = {"command": "command_accuracy", "dialogue": "dialogue_accuracy", "repair": "repair_accuracy"}


class ExecutedTasks:
    """Scores answers by running them; where no sandbox works they stay unscored, with the reason."""

    def __init__(self, suite: Suite, notify: Callable[[str], None]) -> None:
        self.questions: list[Question] = [
            question for task in suite.tasks if task.kind in EXECUTED_KINDS for question in questions(task)
        ]
        self._scorer: CommandScorer | None = None
        self._why_not = ""
        try:
            sandbox = find_sandbox()
            self._scorer = CommandScorer(sandbox, _build_fixtures(suite, self.questions, sandbox, notify))
        except SandboxError as error:
            self._why_not = str(error)
            notify(f"commands stay unscored: {error}")

    def score(self, texts: Sequence[str]) -> list[Answer]:
        """A verdict on each text, several sandboxes at once."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(self._score_one, self.questions, texts))

    def summarize(self, answers: Sequence[Answer]) -> dict[str, Score]:
        """Accuracy of each kind; of later turns with and without their history, and by how they depend on it."""
        scores: dict[str, Score] = {}
        for kind, metric in METRICS.items():
            _add(scores, metric, (a for a in answers if a.question.kind == kind and not a.question.is_control))
        later = [answer for answer in answers if answer.question.depends not in ("", "topic")]
        _add(scores, "later_turn_accuracy", (a for a in later if not a.question.is_control))
        _add(scores, "later_turn_accuracy_without_history", (a for a in later if a.question.is_control))
        for depends in sorted({answer.question.depends for answer in answers} - {"", "unknown"}):
            chosen = (a for a in answers if a.question.depends == depends and not a.question.is_control)
            _add(scores, f"later_turn_accuracy/{depends}", chosen)
        return scores

    def _score_one(self, question: Question, text: str) -> Answer:
        command = extract_command(text)
        if self._scorer is None:
            return Answer(question, text, command, None, self._why_not)
        verdict = self._scorer.score(question, command)
        if isinstance(verdict, Verdict):
            return Answer(question, text, command, verdict.equal, verdict.reason)
        return Answer(question, text, command, None, verdict)


def _add(scores: dict[str, Score], metric: str, answers: Iterable[Answer]) -> None:
    chosen = list(answers)
    if chosen:
        reasons = sorted({answer.reason for answer in chosen if answer.equal is None})
        clusters = [answer.question.cluster for answer in chosen]
        scores[metric] = score_outcomes([answer.equal for answer in chosen], clusters, "; ".join(reasons[:3]))


def _build_fixtures(
    suite: Suite, asked: Sequence[Question], sandbox: Sandbox, notify: Callable[[str], None]
) -> dict[str, Fixture]:
    fixtures = {}
    for name in sorted({question.fixture for question in asked}):
        try:
            fixtures[name] = sandbox.build_fixture(name, *suite.scripts[name])
        except SandboxError as error:
            notify(str(error))
    return fixtures
