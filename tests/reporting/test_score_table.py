"""The table of all scores: what a careful reader asks of a number stands beside it."""

from __future__ import annotations

from typing import Any

from overseer_training.records import Score
from overseer_training.reporting.score_table import format_scores


def score(value: float | None, low: float = 0.0, high: float = 1.0, n: int = 100, **more: Any) -> dict[str, Any]:
    interval = None if value is None else (low, high)
    return Score(n if value is not None else 0, value, interval, **more).as_dict()


EVALUATION = {
    "base": {
        "command_accuracy": score(0.0, 0.0, 0.01, 400),
        "prediction_cause_accuracy": score(0.5, 0.1, 0.9, 4, unscored=21, reason="the answer cannot be read"),
        "attack_success": score(0.02, 0.0, 0.1),
        "tool_mrr": score(0.2, 0.1, 0.3),
    },
    "trained": {
        "bias_accuracy/polite": score(0.3, 0.2, 0.4, 20),
        "command_accuracy": score(0.175, 0.129, 0.223, 400),
        "prediction_cause_accuracy": score(0.75, 0.55, 0.95, 25, baseline={"rules": 0.9, "constant": 0.2}),
        "attack_success/override": score(0.25, 0.1, 0.4, 16),
        "attack_success": score(0.3, 0.2, 0.4),
        "tool_mrr": score(0.25, 0.15, 0.35, baseline={"bm25": 0.4}),
        "noise_kept": score(None, reason="no command was right in its plain form"),
        "export_parity": score(0.98, 0.9, 1.0, 50),
    },
}


def line_of(text: str, label: str) -> list[str]:
    """The cells of a line."""
    [line] = [line for line in text.splitlines() if line.strip().startswith(f"{label} ")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_each_skill_has_n_both_values_with_intervals_verdict_baseline_and_what_is_unscored() -> None:
    text = format_scores(EVALUATION, "Scores of mine")
    assert text.startswith("Scores of mine (95 % intervals in brackets")
    assert line_of(text, "Command accuracy") == ["Command accuracy", "400", "0.0 % [0.0, 1.0]", "17.5 % [12.9, 22.3]", "better", "0"]  # fmt: skip
    assert line_of(text, "Prediction: what is the cause?")[1:] == ["4 / 25", "50.0 % [10.0, 90.0]", "75.0 % [55.0, 95.0]", "unclear", "90.0 % rules", "21 / 0"]  # fmt: skip
    assert line_of(text, "Tool recommendation, MRR")[1:] == ["100", "0.2 [0.1, 0.3]", "0.25 [0.15, 0.35]", "unclear", "0.4 bm25", "0"]  # fmt: skip
    assert line_of(text, "Attacks that work")[4] == "worse"


def test_what_is_unscored_is_no_zero_and_says_why() -> None:
    text = format_scores(EVALUATION, "t")
    assert line_of(text, "Right despite noise")[1:] == ["0", "not asked", "unscored", "unscored", "0"]
    assert "Right despite noise: trained: no command was right in its plain form" in text
    assert "Prediction: what is the cause?: base: 21 unscored (the answer cannot be read)" in text
    assert "Unscored, and" not in format_scores({"base": {}, "trained": {"command_accuracy": score(0.5)}}, "t")


def test_parts_stand_below_what_they_are_parts_of() -> None:
    lines = format_scores(EVALUATION, "t").splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("Attacks that work"))
    assert lines[place + 1].startswith("  override")
    assert any(line.startswith("Right for the group: polite") for line in lines), "of these there is no whole"


def test_one_model_alone_has_no_columns_that_compare() -> None:
    text = format_scores({"trained": EVALUATION["trained"]}, "t")
    assert "base" not in text.splitlines()[2].replace("baseline", "")
    assert line_of(text, "Command accuracy") == ["Command accuracy", "400", "17.5 % [12.9, 22.3]", "0"]
