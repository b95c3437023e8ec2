"""Telemetry questions in the report: what was shown, what came, what was said."""

from __future__ import annotations

from typing import Any

from overseer_training.evaluation.runner import answers_as_records
from overseer_training.evaluation.suite import Suite, prediction_tasks
from overseer_training.evaluation.tasks.prediction import PredictionTasks
from overseer_training.reporting.foresight import draw_foresight


def record(kind: str, said: str, **question: Any) -> dict[str, Any]:
    return {
        "kind": "prediction",
        "trained": {"command": said},
        "series": {
            "question": {"type": kind, "metric": "cpu_percent", "horizon_seconds": 3600, **question},
            "answer": 30.0 if kind == "forecast" else True,
            "step_seconds": 1800,
            "past": [10.0, None, 12.0, 11.0],
            "future": [20.0, 40.0],
            "baseline": {
                "name": "smoothing",
                "path": [11.0, 11.0],
                "answer": 11.0 if kind == "forecast" else {"probability": 0.2},
            },
        },
    }


def test_a_forecast_is_drawn_with_what_came_and_what_was_said() -> None:
    (found,) = draw_foresight([{"kind": "command"}, record("forecast", "25")])
    assert [line.label for line in found.chart.lines] == ["shown", "what came", "smoothing", "the model"]
    assert found.chart.lines[3].path.count("L") == 1  # one number for the whole hour
    assert "the model said 25, smoothing 11; it was 30" in found.sentence
    assert found.chart.slices[0].title.startswith("-1.5 h\nshown: 10")


def test_a_limit_is_drawn_and_the_chance_of_passing_it_said() -> None:
    (found,) = draw_foresight([record("threshold", "about 70 %", limit=35.0)])
    assert found.chart.limit is not None and found.chart.limit.label == "35"
    assert (
        found.sentence.startswith("Will cpu percent pass 35 within 1 h")
        and "said 70%, smoothing 20%; it did" in found.sentence
    )


def test_an_answer_that_can_be_read_is_shown_rather_than_one_that_cannot() -> None:
    (found,) = draw_foresight([record("forecast", "ls -l"), record("forecast", "26")])
    assert "the model said 26" in found.sentence
    (found,) = draw_foresight([record("forecast", "ls -l")])
    assert "the model gave no number" in found.sentence and len(found.chart.lines) == 3


def test_real_tasks_have_their_future_outside_the_prompt() -> None:
    tasks = tuple(task for task in prediction_tasks(24, seed=3) if "future" in task.fields)
    scorer = PredictionTasks(Suite(tasks, {}))
    answers = scorer.score(["50 %" for _ in tasks])
    records = answers_as_records(answers, answers)
    assert records and all(
        r["series"]["future"] == task.fields["future"] for r, task in zip(records, tasks, strict=True)
    )
    assert not any(str(r["series"]["future"][-3:])[1:-1] in r["query"] for r in records)
    assert {found.sentence.split()[0] for found in draw_foresight(records)} <= {"Mean", "Will"}
