"""Base model against trained model: one row for every metric in `eval.json`, with a verdict that its intervals support.

Takes the parsed `eval.json` (scores as `records.Score.as_dict`) and answers; gives rows. Does not draw.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from overseer_training.reporting.units import NOTHING, as_number, as_percent, as_quantity

Unit = Literal["fraction", "nats", "rate", "number"]
Verdict = Literal["better", "worse", "unclear", "unscored", "alone"]

VERDICT_WORDS: dict[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "unclear": "no clear difference",
    "unscored": "unscored",
    "alone": "no comparison",
}
KNOWN: dict[str, tuple[str, str]] = {  # name in eval.json -> what people read, what it means
    "command_accuracy": ("Command accuracy", "run in a sandbox: same effects and output as a reference"),
    "answer_loss": ("Answer loss", "nats per answer token on held-out examples; lower is better"),
    "token_accuracy": ("Token accuracy", "answer tokens predicted right on held-out examples"),
    "answers_per_second": ("Answers per second", "many at once, on this machine; measured once, so not judged"),
    "dialogue_accuracy": ("Conversations", "requests that build on each other, by execution"),
    "later_turn_accuracy": ("Follow-ups alone", "second and later turns of conversations, by execution"),
    "repair_accuracy": ("Error repair", "a failed command repaired, by execution"),
    "later_turn_accuracy_without_history": (
        "Follow-ups, history removed",
        "the control: needs to be lower than the line above",
    ),
    "prediction_threshold_brier": (
        "Prediction: passes a limit?",
        "Brier score of the probability; 0.25 is a coin, lower is better",
    ),
    "prediction_threshold_balanced_accuracy": (
        "Prediction: passes a limit, yes or no",
        "mean of both shares; 50 % is a coin",
    ),
    "prediction_forecast_scaled_error": (
        "Prediction: mean of the next hour",
        "error over that of persistence in the window; lower is better",
    ),
    "prediction_anomaly_f1": ("Prediction: is the last hour abnormal?", "F1 of abnormal windows"),
    "prediction_anomaly_metric": ("Prediction: where it is abnormal", "the right metric, where one was found"),
    "prediction_cause_accuracy": ("Prediction: what is the cause?", "of six causes"),
    "machine_threshold_brier": (
        "This machine: passes a limit, how sure",
        "Brier score on telemetry held back; lower is better",
    ),
    "machine_threshold_balanced_accuracy": (
        "This machine: passes a limit, yes or no",
        "on telemetry held back; 50 % is a coin",
    ),
    "machine_forecast_scaled_error": (
        "This machine: mean of the next hour",
        "on telemetry held back, error over that of persistence; lower is better",
    ),
    "tools": ("Tool recommendation", ""),
    "personal_accuracy": ("Your own requests", "held back from your interactions: the command that you ran"),
    "safety_accuracy": ("Safety of answers", "refused, asked back or answered as the request needs"),
    "harmful_share": (
        "Harmful answers",
        "dangerous or ambiguous requests answered with a dangerous command; lower is better",
    ),
    "needless_refusals": ("Needless refusals", "harmless requests that are refused; lower is better"),
    "tool_hit_at_1": ("Tool recommendation, hit@1", "the first tool named is acceptable"),
    "tool_hit_at_3": ("Tool recommendation, hit@3", "one of the first three is acceptable"),
    "tool_mrr": ("Tool recommendation, MRR", "mean reciprocal rank of the first acceptable tool"),
    "attack_success": (
        "Attacks that work",
        "requests with an attack in them that get a dangerous command; the baseline asks in bare words; lower is better",
    ),
    "bias_gap": (
        "Gap between groups of people",
        "accuracy of the group served best less that of the worst; the baseline is what chance makes; lower is better",
    ),
    "bias_accuracy": ("Right for the group", "commands right, by execution, asked as a group of people asks"),
    "noise_kept": ("Right despite noise", "of commands that are right in plain words, under slips, politeness and the like"),
    "noise_plain_accuracy": ("The same without noise", "commands right in plain words, by execution"),
    "export_parity": ("Answers kept by the export", "equal to those of the trained model, in llama.cpp"),
}
LOWER_IS_BETTER = (
    "loss",
    "error",
    "seconds",
    "bytes",
    "perplexity",
    "gap",
    "harmful_share",
    "needless_refusals",
    "attack_success",
    "brier",
)  # endings of names
MUST_BEAT = (
    "persistence",
    "deviation",
    "rules",
    "bm25",
)  # what a model is worth nothing below; the first that a metric has
ACRONYMS = {"mrr": "MRR", "bm25": "BM25", "ram": "RAM", "gpu": "GPU"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One side of a row, ready to print; `low` and `high` are None without an interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    unscored: int
    reason: str
    unit: Unit
    baseline: dict[str, float]

    @property
    def text(self) -> str:
        return format_value(self.value, self.unit)

    @property
    def holes(self) -> str:
        """`3 unscored (time limit)`; why there is no value where nothing was asked; empty when everything was scored."""
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.unscored:,} unscored{reason}" if self.unscored else self.reason if self.value is None else ""

    @property
    def interval(self) -> str:
        if self.low is None or self.high is None:
            return ""
        if self.unit == "fraction":
            return f"{self.low * 100:.1f}–{self.high * 100:.1f} %"
        digits = "{:.3f}–{:.3f}" if self.unit == "nats" else "{:.3g}–{:.3g}"
        return digits.format(self.low, self.high)


@dataclasses.dataclass(frozen=True)
class Row:
    """One metric, both models."""

    name: str
    label: str
    meaning: str
    unit: Unit
    base: Measured | None
    trained: Measured | None
    verdict: Verdict

    @property
    def verdict_words(self) -> str:
        return VERDICT_WORDS[self.verdict]

    @property
    def change(self) -> str:
        if self.base is None or self.trained is None or self.base.value is None or self.trained.value is None:
            return ""
        change = self.trained.value - self.base.value
        sign = "+" if change >= 0 else "−"
        if self.unit == "fraction":
            return f"{sign}{abs(change) * 100:.1f} points"
        return sign + format_value(abs(change), self.unit)

    @property
    def holes(self) -> list[str]:
        """What is unscored on either side, with the reason."""
        said = {name: side.holes for name, side in (("base", self.base), ("trained", self.trained)) if side is not None}
        if len(said) == 2 and said["base"] == said["trained"]:
            return [said["base"]] if said["base"] else []
        return [f"{name}: {holes}" for name, holes in said.items() if holes]

    @property
    def baselines(self) -> list[str]:
        """What the value has to beat, as `BM25: 0.44`."""
        side = self.trained or self.base
        return [
            f"{_spell(name)}: {format_value(as_number(value), self.unit)}"
            for name, value in (side.baseline if side else {}).items()
        ]

    @property
    def beaten_by(self) -> str:
        """The simplest baseline that the trained model does not beat; empty where it does, or there is none."""
        if self.trained is None or self.trained.value is None:
            return ""
        for name in MUST_BEAT:
            limit = as_number(self.trained.baseline.get(name))
            if limit is not None:
                gain = self.trained.value - limit
                return "" if (-gain if self.name.endswith(LOWER_IS_BETTER) else gain) > 0 else _spell(name)
        return ""


def compare(evaluation: dict[str, Any]) -> list[Row]:
    """Rows in the order of `KNOWN`, then whatever else was measured."""
    base, trained = evaluation.get("base") or {}, evaluation.get("trained") or {}
    names = [name for name in KNOWN if name in base or name in trained]
    names += [name for name in (*base, *trained) if name not in names]
    return [_row(name, base.get(name), trained.get(name)) for name in dict.fromkeys(names)]


def judge(base: Measured | None, trained: Measured | None, lower_is_better: bool) -> Verdict:
    """Better or worse when the 95 % interval of the difference leaves out zero.

    Both models answer the same items, so the true error is mostly smaller: the verdict leans to `unclear`.

    Source: Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10.
    """
    if trained is None or base is None:
        known = trained or base
        return "unscored" if known is None or known.value is None else "alone"
    if trained.value is None or base.value is None:
        return "unscored"
    gain = (base.value - trained.value) if lower_is_better else (trained.value - base.value)
    upper, lower = (base, trained) if base.value > trained.value else (trained, base)
    if upper.low is None or lower.high is None or lower.value is None or upper.value is None:
        return "unclear"
    # Intervals of shares are lopsided near 0 and 1: the sides that face each other count.
    if abs(gain) <= math.hypot(upper.value - upper.low, lower.high - lower.value):
        return "unclear"
    return "better" if gain > 0 else "worse"


def answer_outcome(answer: dict[str, Any]) -> str:
    """`gained`, `lost`, `right` or `wrong` (both models alike), `unscored`; right means equal in the sandbox."""
    base, trained = ((answer.get(side) or {}).get("equal") for side in ("base", "trained"))
    if trained is None or base is None:
        return "unscored"
    return {(False, True): "gained", (True, False): "lost", (True, True): "right"}.get(
        (bool(base), bool(trained)), "wrong"
    )


def label_of(name: str) -> str:
    """`tool_mrr` -> `Tool MRR`, for names that have no entry in `KNOWN`; `noise_kept/polite` is a part of `noise_kept`."""
    whole, slash, part = name.partition("/")
    if slash:
        return f"{label_of(whole)}: {_spell(part)}"
    if name in KNOWN:
        return KNOWN[name][0]
    words = _spell(name)
    return words[:1].upper() + words[1:]


def format_value(value: float | None, unit: Unit) -> str:
    if value is None:
        return NOTHING
    if unit == "fraction":
        return as_percent(value)
    if unit == "nats":
        return f"{value:.3f} nats"
    return f"{as_quantity(value)} /s" if unit == "rate" else as_quantity(value)


def _spell(name: str) -> str:
    return " ".join(ACRONYMS.get(word, word) for word in name.split("_") if word)


def _row(name: str, base: Any, trained: Any) -> Row:
    unit = _unit(name)
    sides = [_measured(score, unit) for score in (base, trained)]
    is_lower_better = name.partition("/")[0].endswith(LOWER_IS_BETTER)  # parts are like the whole
    verdict = judge(sides[0], sides[1], is_lower_better and unit != "rate")
    return Row(name, label_of(name), KNOWN.get(name, ("", ""))[1], unit, sides[0], sides[1], verdict)


def _measured(score: Any, unit: Unit) -> Measured | None:
    if not isinstance(score, dict):
        return None
    interval = score.get("ci95") or (None, None)
    return Measured(
        value=as_number(score.get("value")),
        low=as_number(interval[0]),
        high=as_number(interval[1]),
        n=int(as_number(score.get("n")) or 0),
        unscored=int(as_number(score.get("unscored")) or 0),
        reason=str(score.get("reason") or ""),
        unit=unit,
        baseline=score.get("baseline") or {},
    )


def _unit(name: str) -> Unit:
    if name.endswith("per_second"):
        return "rate"
    if name.endswith("loss"):
        return "nats"
    return (
        "number"
        if name.endswith(("error", "brier", "seconds", "bytes", "perplexity", "mase", "mrr", "count"))
        else "fraction"
    )
