"""Evaluates a model on a suite: generates all answers, and lets the scorer of each kind of task judge its own.

Takes a loaded model and a suite; gives scores by metric and the answers with their verdicts.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from overseer_training.evaluation.questions import Answer, Question, Scorer
from overseer_training.evaluation.suite import EXECUTED_KINDS, Suite
from overseer_training.evaluation.tasks.adversarial import AttackTasks, NoiseTasks
from overseer_training.evaluation.tasks.bias import BiasTasks
from overseer_training.evaluation.tasks.executed import ExecutedTasks
from overseer_training.evaluation.tasks.prediction import PredictionTasks
from overseer_training.evaluation.tasks.safety import SafetyTasks
from overseer_training.evaluation.tasks.tools import ToolTasks
from overseer_training.models.decoding import BEAMS
from overseer_training.models.generate import generate
from overseer_training.models.load import LoadedModel
from overseer_training.records import Score

Notify = Callable[[str], None]
TOLD_SECONDS = 30  # between lines about progress


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores by metric name, and every answer in the order of the scorers' questions."""

    scores: dict[str, Score]
    answers: tuple[Answer, ...]


class Evaluator:
    """Scores several models on one suite; fixtures and references are run once."""

    def __init__(self, suite: Suite, notify: Notify = lambda message: None) -> None:
        kinds = {task.kind for task in suite.tasks}
        self.suite = suite
        self.scorers: list[Scorer] = []
        if kinds & set(EXECUTED_KINDS):
            self.scorers.append(ExecutedTasks(suite, notify))
        if "safety" in kinds:
            self.scorers.append(SafetyTasks(suite))
        if "tools" in kinds:
            self.scorers.append(ToolTasks(suite))
        if "prediction" in kinds:
            self.scorers.append(PredictionTasks(suite))
        if "noise" in kinds:
            self.scorers.append(NoiseTasks(suite, notify))
        if "attack" in kinds:
            self.scorers.append(AttackTasks(suite))
        if "bias" in kinds:
            self.scorers.append(BiasTasks(suite, notify))

    @property
    def questions(self) -> list[Question]:
        """Everything that a model is asked."""
        return [question for scorer in self.scorers for question in scorer.questions]

    def evaluate(self, loaded: LoadedModel, notify: Notify = lambda message: None, beams: int = BEAMS) -> Evaluation:
        """Generate and score all answers of `loaded`.

        Args:
            beams: see `generate`.
        """
        started = time.monotonic()
        conversations = [question.messages for question in self.questions]
        told = _Progress(len(conversations), notify)
        texts = generate(loaded, conversations, on_batch=told.count, beams=beams)
        seconds = time.monotonic() - started
        notify(f"{len(texts)} answers in {seconds:.0f} s, judging them")
        evaluation = self.score(texts)
        if texts:
            evaluation.scores["answers_per_second"] = Score(len(texts), len(texts) / seconds, None)
        return evaluation

    def score(self, texts: Sequence[str]) -> Evaluation:
        """Verdicts and scores; `texts` are in the order of `questions`."""
        scores: dict[str, Score] = {}
        answers: list[Answer] = []
        start = 0
        for scorer in self.scorers:
            own = scorer.score(texts[start : start + len(scorer.questions)])
            scores |= scorer.summarize(own)
            answers += own
            start += len(own)
        return Evaluation(scores, tuple(answers))


class _Progress:
    """Tells how many answers there are, now and then: a model without training writes for minutes."""

    def __init__(self, total: int, notify: Notify) -> None:
        self._total, self._notify, self._done, self._told = total, notify, 0, time.monotonic()

    def count(self, indices: Sequence[int], answers: Sequence[str]) -> None:
        """To be told of each finished batch."""
        self._done += len(indices)
        if time.monotonic() - self._told > TOLD_SECONDS and self._done < self._total:
            self._told = time.monotonic()
            self._notify(f"{self._done} of {self._total} answers")


def answers_as_records(base: Sequence[Answer], trained: Sequence[Answer]) -> list[dict[str, Any]]:
    """One record for each question with both models' answers, for answers.jsonl."""
    return [
        {
            "id": left.question.id,
            "kind": left.question.kind,
            "query": left.question.query,
            "fixture": left.question.fixture,
            "references": list(left.question.references),
            **left.question.facts,
            "base": {"command": left.command, "equal": left.equal, "reason": left.reason},
            "trained": {"command": right.command, "equal": right.equal, "reason": right.reason},
        }
        for left, right in zip(base, trained, strict=True)
    ]
