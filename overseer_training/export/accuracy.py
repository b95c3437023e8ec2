"""What an exported file costs: the questions of the evaluation, answered by llama.cpp and judged as the trained model was.

Takes a GGUF, an `Evaluator` and the verdicts on the trained model; gives scores and how many verdicts changed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overseer_training.errors import DataError
from overseer_training.evaluation.suite import Suite
from overseer_training.export.llama_server import CONTEXT_TOKENS, THREADS
from overseer_training.records import Score

if TYPE_CHECKING:
    from overseer_training.evaluation.runner import Evaluator

Verdicts = Mapping[str, bool | None]  # id of a question -> right, wrong, or unscored


@dataclasses.dataclass(frozen=True)
class FileAccuracy:
    """Scores of one file, and its verdicts beside those on the trained model.

    Attributes:
        scores: by metric, as in eval.json.
        compared: questions that were scored for both.
        lost, gained: of these, only the trained model has right, and only the file has right.
    """

    scores: dict[str, Score]
    compared: int
    lost: int
    gained: int

    def as_dict(self) -> dict[str, Any]:
        scores = {name: score.as_dict() for name, score in self.scores.items()}
        return {"scores": scores, "compared": self.compared, "lost": self.lost, "gained": self.gained}

    def as_text(self) -> str:
        """One line for a person, about commands."""
        score = self.scores.get("command_accuracy")
        if score is None or score.value is None or score.ci95 is None:
            return f"commands unscored: {score.reason if score else 'there are none'}"
        low, high = score.ci95
        right = f"commands right: {score.value:.1%} [{low:.1%}, {high:.1%}] (n = {score.n})"
        changed = (
            f"; of {self.compared} that the trained model was asked too, {self.lost} lost and {self.gained} gained"
        )
        return right + (changed if self.compared else "")


def command_suite(suite: Suite, count: int) -> Suite:
    """The first `count` command tasks of a suite: one question each, drawn evenly over the families by the suite."""
    return Suite(tuple(task for task in suite.tasks if task.kind == "command")[:count], suite.scripts)


def read_verdicts(answers: pathlib.Path) -> dict[str, bool | None]:
    """The verdicts on the trained model in answers.jsonl of a run; none where the run has no such file.

    Raises:
        DataError: the file cannot be read.
    """
    if not answers.is_file():
        return {}
    try:
        records = [json.loads(line) for line in answers.read_text("utf-8").split("\n") if line.strip()]
        return {str(record["id"]): record["trained"]["equal"] for record in records}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{answers} cannot be read ({error}); evaluate the run again") from error


def measure_accuracy(
    gguf_path: pathlib.Path, evaluator: Evaluator, trained: Verdicts, *, threads: int = THREADS
) -> FileAccuracy:
    """Answer all questions of `evaluator` as the file answers its users, and judge them.

    Raises:
        ModelError: llama.cpp cannot load the file.
    """
    from overseer_training.models.generate import MAX_NEW_TOKENS
    from overseer_training.models.llama_file import LlamaFile

    file = LlamaFile(gguf_path, context_tokens=CONTEXT_TOKENS, threads=threads)
    texts = [file.find_likeliest(question.messages, MAX_NEW_TOKENS).text for question in evaluator.questions]
    del file  # llama.cpp ends before sandboxes are forked
    evaluation = evaluator.score(texts)
    both = [
        (bool(trained[answer.question.id]), answer.equal)
        for answer in evaluation.answers
        if answer.equal is not None and trained.get(answer.question.id) is not None
    ]
    lost = sum(before and not after for before, after in both)
    gained = sum(after and not before for before, after in both)
    return FileAccuracy(evaluation.scores, len(both), lost, gained)
