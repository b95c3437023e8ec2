"""Evaluates a model on a suite: generates all answers, runs them, and scores each kind of task.

Takes a loaded model and a suite; gives scores by metric and the answers with their verdicts. Where no sandbox works the metrics
are unscored, with the reason.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from overseer_training.errors import SandboxError
from overseer_training.evaluation.compare import Verdict
from overseer_training.evaluation.sandbox import Fixture, Sandbox, find_sandbox
from overseer_training.evaluation.statistics import score_outcomes
from overseer_training.evaluation.suite import EXECUTED_KINDS, Suite
from overseer_training.evaluation.tasks.commands import CommandScorer, Question, questions
from overseer_training.models.generate import extract_command, generate
from overseer_training.models.load import LoadedModel
from overseer_training.records import Score

METRICS = {"command": "command_accuracy", "dialogue": "dialogue_accuracy", "repair": "repair_accuracy"}
NO_SCORER = {
    "tools": "this version has no scorer for tool recommendations",
    "safety": "this version has no scorer for safety",
    "prediction": "this version has no scorer for predictions",
}
Notify = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered; `equal` is None where it could not be scored."""

    question: Question
    text: str
    command: str
    equal: bool | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores by metric name, and every answer in the order of the suite."""

    scores: dict[str, Score]
    answers: tuple[Answer, ...]


class Evaluator:
    """Scores several models on one suite; fixtures and references are run once."""

    def __init__(self, suite: Suite, notify: Notify = lambda message: None) -> None:
        self.suite = suite
        self.questions: list[Question] = [
            q for task in suite.tasks if task.kind in EXECUTED_KINDS for q in questions(task)
        ]
        self._scorer: CommandScorer | None = None
        self._why_not = ""
        if self.questions:
            try:
                sandbox = find_sandbox()
                self._scorer = CommandScorer(sandbox, _build_fixtures(suite, self.questions, sandbox, notify))
            except SandboxError as error:
                self._why_not = str(error)
                notify(f"commands stay unscored: {error}")

    def evaluate(self, loaded: LoadedModel, notify: Notify = lambda message: None) -> Evaluation:
        """Generate and score all answers of `loaded`."""
        started = time.monotonic()
        texts = generate(loaded, [question.messages for question in self.questions])
        seconds = time.monotonic() - started
        notify(f"{len(texts)} answers in {seconds:.0f} s, running them")
        answers = self.score(texts)
        scores = self._summarize(answers)
        if texts:
            scores["answers_per_second"] = Score(len(texts), len(texts) / seconds, None)
        return Evaluation(scores, tuple(answers))

    def score(self, texts: Sequence[str]) -> list[Answer]:
        """Answers with verdicts; `texts` are in the order of `questions`."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(self._score_one, self.questions, texts))

    def _score_one(self, question: Question, text: str) -> Answer:
        command = extract_command(text)
        if self._scorer is None:
            return Answer(question, text, command, None, self._why_not)
        verdict = self._scorer.score(question, command)
        if isinstance(verdict, Verdict):
            return Answer(question, text, command, verdict.equal, verdict.reason)
        return Answer(question, text, command, None, verdict)

    def _summarize(self, answers: Sequence[Answer]) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        for kind, metric in METRICS.items():
            chosen = [answer for answer in answers if answer.question.kind == kind]
            if chosen:
                reasons = sorted({answer.reason for answer in chosen if answer.equal is None})
                clusters = [answer.question.cluster for answer in chosen]
                scores[metric] = score_outcomes([answer.equal for answer in chosen], clusters, "; ".join(reasons[:3]))
        later = [answer for answer in answers if answer.question.is_later_turn]
        if later:
            scores["later_turn_accuracy"] = score_outcomes(
                [answer.equal for answer in later], [answer.question.cluster for answer in later]
            )
        for kind, reason in NO_SCORER.items():
            count = sum(task.kind == kind for task in self.suite.tasks)
            if count:
                scores[kind] = Score(0, None, None, count, reason)
        return scores


def answers_as_records(base: Sequence[Answer], trained: Sequence[Answer]) -> list[dict[str, Any]]:
    """One record for each question with both models' answers, for answers.jsonl."""
    return [
        {
            "id": left.question.id,
            "kind": left.question.kind,
            "query": left.question.query,
            "fixture": left.question.fixture,
            "references": list(left.question.references),
            "base": {"command": left.command, "equal": left.equal, "reason": left.reason},
            "trained": {"command": right.command, "equal": right.equal, "reason": right.reason},
        }
        for left, right in zip(base, trained, strict=True)
    ]


def _build_fixtures(suite: Suite, asked: Sequence[Question], sandbox: Sandbox, notify: Notify) -> dict[str, Fixture]:
    fixtures = {}
    for name in sorted({question.fixture for question in asked}):
        try:
            fixtures[name] = sandbox.build_fixture(name, *suite.scripts[name])
        except SandboxError as error:
            notify(str(error))
    return fixtures
