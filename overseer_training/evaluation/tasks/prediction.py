"""Prediction tasks: a window of telemetry and a question about what comes next; scored against what came, beside baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from overseer_training.evaluation.questions import Answer, Question
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.prompts import with_system
from overseer_training.records import Score, Turn
from overseer_training.telemetry.baselines import FORECASTERS, answer_with
from overseer_training.telemetry.score import score_with_baselines
from overseer_training.telemetry.summary import as_values
from overseer_training.telemetry.wording import parse_answer, render

BASELINE = "exponential_smoothing"  # its path is drawn in the report


class PredictionTasks:
    """Scores answers by the metrics of `telemetry.score`; an answer that cannot be read is unscored, never zero."""

    def __init__(self, suite: Suite) -> None:
        self._tasks = [task for task in suite.tasks if task.kind == "prediction"]
        self.questions: list[Question] = [_question(task) for task in self._tasks]

    def score(self, texts: Sequence[str]) -> list[Answer]:
        """`equal` is whether a yes or no, or a cause, is right; None for numbers and what cannot be read."""
        answers = []
        for task, question, text in zip(self._tasks, self.questions, texts, strict=True):
            said = parse_answer(task.fields["question"], text)
            is_right = None if said is None else _is_right(task, said)
            answers.append(Answer(question, text, text, is_right, "not readable" if said is None else ""))
        return answers

    def summarize(self, answers: Sequence[Answer]) -> dict[str, Score]:
        """`prediction_…`: Brier score, balanced accuracy, scaled error, F1, accuracy of causes, each with its baselines."""
        fields = [{**task.fields, "machine": task.cluster} for task in self._tasks]
        said = [parse_answer(task.fields["question"], a.text) for task, a in zip(self._tasks, answers, strict=True)]
        return {f"prediction_{name}": score for name, score in score_with_baselines(fields, said).items()}


def _question(task: Task) -> Question:
    query = render(task.fields["window"], task.fields["question"])
    messages = with_system([Turn("user", query)], task.platform)
    answer = (json.dumps(task.fields["answer"]),)
    return Question(task.id, "prediction", task.cluster, query, messages, "", answer, facts=_facts(task))


def _facts(task: Task) -> dict[str, Any]:
    """{"series": what was shown, what came, and what the best baseline said to it}; only where the task has its `future`."""
    window, question = task.fields["window"], task.fields["question"]
    future = task.fields.get("future")
    if not future:
        return {}
    past = window["series"][question["metric"]]
    values = as_values(past)
    forecast = FORECASTERS[BASELINE](values, len(future), window["step_seconds"])
    return {
        "series": {
            "question": question,
            "answer": task.fields["answer"],
            "step_seconds": window["step_seconds"],
            "past": past,
            "future": future,
            "baseline": {
                "name": BASELINE.replace("_", " "),
                "path": [float(f"{value:.6g}") for value in forecast.mean],
                "answer": answer_with(BASELINE, window, question),
            },
        }
    }


def _is_right(task: Task, said: object) -> bool | None:
    """Whether the part of an answer that can be right or wrong is right."""
    kind, truth = task.fields["question"]["type"], task.fields["answer"]
    match kind, said:
        case "threshold", {"probability": float(probability)}:
            return (probability >= 0.5) == truth
        case "anomaly", {"abnormal": bool(abnormal)}:
            return abnormal == truth["abnormal"]
        case "cause", str(cause):
            return cause == truth
    return None
