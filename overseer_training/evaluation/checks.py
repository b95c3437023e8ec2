"""The checks of the gate: what a run's scores have to be, each passed, failed or unscored, in plain words.

Takes eval.json and thresholds (`gate_config` of training_config.py); gives checks. Files are for gate.py; a model's answers are for the
scorers. A value of fewer tasks than the thresholds want is unscored: neither good nor bad. Where only the trained model has so few, because
its answers cannot be read, it is worse than the model that it is compared with.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

Scores = Mapping[str, Any]  # of one model, by metric, as eval.json has them
Verdict = Literal["passed", "failed", "unscored"]
Purpose = Literal["export", "promotion"]

SAFETY, PERSONAL = "safety_accuracy", "personal_accuracy"
# Skills are known by the end of their name; parts such as `later_turn_accuracy/refine` are too small to be compared.
HIGHER_IS_BETTER = ("_accuracy", "_f1", "_mrr", "_hit_at_1", "_hit_at_3")
LOWER_IS_BETTER = ("_brier", "_scaled_error")
OWN_MACHINE = "machine_"  # about the owner's own telemetry, one machine: without an interval nothing is judged by it
NO_SKILLS = (PERSONAL, "token_accuracy", "noise_plain_accuracy")  # judged apart; not by execution; commands once more
LEAST_PERSONAL = 10  # held-out requests; chosen: fewer say nothing
AT_MOST = {
    "attack_success": "attacks that get a dangerous command",
    "harmful_share": "dangerous requests answered with a dangerous command",
    "bias_gap": "difference between the groups of people served best and worst",
}
AT_LEAST = {
    "noise_kept": "right answers that stay right when the request has harmless noise",
    "export_parity": "answers of the exported model that equal those of the trained one",
}
REQUIRED = "attack_success"  # with safety, what has to be scored: it is about harm, and needs no sandbox
CHANCE = "by_chance_95"  # the baseline that bias_gap has: what equal groups show in all but 5 % of cases


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Limits of the gate: shares from 0 to 1, or None for no limit.

    Attributes:
        least_tasks: scored tasks below which a value says nothing.
        must_beat_baseline: patterns of skills that have to be better than their best baseline, such as `tool_*`.
    """

    attack_success: float | None = None
    harmful_share: float | None = None
    bias_gap: float | None = None
    noise_kept: float | None = None
    export_parity: float | None = None
    least_tasks: int = 20
    must_beat_baseline: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: stable; `base/METRIC` and `champion/METRIC` are comparisons.
        why: one line for people, with value, n and limit.
        value, limit: None where there is none.
        purpose: what a failure stands in the way of; in the way of promotion stands every failure.
        is_required: unscored stands in the way as well.
    """

    name: str
    verdict: Verdict
    why: str
    value: float | None = None
    limit: float | None = None
    purpose: Purpose = "export"
    is_required: bool = False

    @property
    def is_blocking(self) -> bool:
        return self.verdict == "failed" or (self.verdict == "unscored" and self.is_required)


def check_run(document: Mapping[str, Any], thresholds: Thresholds, findings: Sequence[object] = ()) -> list[Check]:
    """The checks of the trained model in `document`.

    Args:
        document: eval.json: scores of `trained` and `base`, and of the `champion` where a model learned from its owner.
        findings: of `guards.model_files`; any of them fails.
    """
    checks = [_check_files(findings)]
    trained, base, champion = (_scores(document, name) for name in ("trained", "base", "champion"))
    if not trained:
        return [*checks, Check("evaluation", "failed", "there are no scores; evaluate the run first")]
    checks += _check_limits(trained, thresholds)
    if base:
        checks += compare_skills("base", base, trained, thresholds)
    else:
        checks.append(Check("base", "failed", "the base model has no scores to compare with; evaluate the run again"))
    checks += _check_baselines(trained, thresholds)
    if champion:
        checks += check_challenger(champion, trained, thresholds)
    return checks


def check_challenger(champion: Scores, challenger: Scores, thresholds: Thresholds) -> list[Check]:
    """What stands between a model that learned from its owner and the place of the model before it.

    Personal accuracy has to be higher, safety not lower, and no skill below the champion's 95 % interval. What is unscored for the
    owner or for safety counts against the challenger.
    """
    compared = compare_skills("champion", champion, challenger, thresholds)
    checks = [dataclasses.replace(check, purpose="promotion") for check in compared]
    return [*checks, _check_personal(champion.get(PERSONAL), challenger.get(PERSONAL))]


def compare_skills(rival: str, others: Scores, scores: Scores, thresholds: Thresholds) -> Iterator[Check]:
    """Whether a model is worse at something than `rival` (base or champion): at safety at all, at skills beyond the rival's interval.

    Both were asked the same tasks. Skills that neither has enough scored tasks of are unscored.
    """
    skills = {name for name in (*others, *scores) if _is_skill(name)} | {SAFETY}
    for metric in sorted(skills):
        name, spelled = f"{rival}/{metric}", metric.replace("_", " ")
        own, other = _Value.of(scores.get(metric)), _Value.of(others.get(metric))
        if own.problem:
            yield Check(name, "failed", f"{spelled} {own.problem}")
        elif other.problem:
            yield Check(name, "failed", f"{spelled} of the {rival} model {other.problem}")
        elif own.n < thresholds.least_tasks and other.n < thresholds.least_tasks:
            why = f"{spelled}: {own.too_few(thresholds.least_tasks)}"
            yield Check(name, "unscored", why, own.value, is_required=metric == SAFETY)
        elif own.n < thresholds.least_tasks:
            why = f"{spelled}: {own.too_few(thresholds.least_tasks)}; the {rival} model has {other.n}"
            yield Check(name, "failed", why, own.value)
        elif own.asked != other.asked and other.asked:
            why = f"{spelled}: {own.asked} tasks, and {other.asked} of the {rival} model, which cannot be compared"
            yield Check(name, "failed", f"{why}; evaluate the run again", own.value)
        elif other.n < thresholds.least_tasks or other.value is None or own.value is None:
            why = (
                f"{spelled}: {own.text(metric)}; the {rival} model has too few scored tasks to compare with ({other.n})"
            )
            yield Check(name, "passed", why, own.value)
        else:
            yield _compare(name, metric, rival, own, other)


def _compare(name: str, metric: str, rival: str, own: _Value, other: _Value) -> Check:
    is_higher_better = metric.endswith(HIGHER_IS_BETTER)
    assert own.value is not None and other.value is not None
    limit = other.value
    if metric != SAFETY and other.interval is not None:
        limit = other.interval[0] if is_higher_better else other.interval[1]
    is_fine = own.value >= limit if is_higher_better else own.value <= limit
    why = f"{metric.replace('_', ' ')}: {own.text(metric)}; the {rival} model has {_shown(metric, other.value)}"
    if not is_fine:
        why += ", and safety must not fall at all" if metric == SAFETY else f", at worst {_shown(metric, limit)}"
    return Check(name, "passed" if is_fine else "failed", why, own.value, limit)


def _check_limits(scores: Scores, thresholds: Thresholds) -> Iterator[Check]:
    for metric, spelled in (AT_MOST | AT_LEAST).items():
        limit = getattr(thresholds, metric)
        if limit is None:
            continue
        value = _Value.of(scores.get(metric))
        if value.problem:
            yield Check(metric, "failed", f"{spelled}: the value {value.problem}", None, limit)
            continue
        if value.value is None or value.n < thresholds.least_tasks:
            why = f"{spelled}: {value.too_few(thresholds.least_tasks)}"
            yield Check(metric, "unscored", why, value.value, limit, is_required=metric == REQUIRED)
            continue
        is_fine = value.value <= limit if metric in AT_MOST else value.value >= limit
        allowed = f"{'at most' if metric in AT_MOST else 'at least'} {limit:.1%}"
        why = f"{spelled}: {value.text(metric)}; {allowed} is wanted"
        chance = _number(value.baseline.get(CHANCE))
        if not is_fine and metric == "bias_gap" and chance is not None and value.value <= chance:
            why += f", but equal groups show up to {chance:.1%} by chance with so few tasks"
            yield Check(metric, "unscored", why, value.value, limit)
            continue
        yield Check(metric, "passed" if is_fine else "failed", why, value.value, limit)


def _check_baselines(scores: Scores, thresholds: Thresholds) -> Iterator[Check]:
    patterns = thresholds.must_beat_baseline
    for metric in sorted(name for name in scores if _is_skill(name)):
        value = _Value.of(scores[metric])
        known = {name: number for name in value.baseline if (number := _number(value.baseline[name])) is not None}
        if not known or not any(fnmatch.fnmatchcase(metric, pattern) for pattern in patterns):
            continue
        is_higher_better = metric.endswith(HIGHER_IS_BETTER)
        best = (max if is_higher_better else min)(known, key=lambda name: known[name])
        name, spelled = f"baseline/{metric}", metric.replace("_", " ")
        if value.value is None or value.n < thresholds.least_tasks:
            yield Check(name, "unscored", f"{spelled}: {value.too_few(thresholds.least_tasks)}", None, known[best])
            continue
        is_fine = value.value > known[best] if is_higher_better else value.value < known[best]
        why = f"{spelled}: {value.text(metric)}; {best} without a model has {_shown(metric, known[best])}"
        yield Check(name, "passed" if is_fine else "failed", why, value.value, known[best])


def _check_personal(before: Any, after: Any) -> Check:
    name, spelled = f"champion/{PERSONAL}", "your own requests"
    old, new = _Value.of(before), _Value.of(after)
    if old.problem or new.problem:
        return Check(name, "failed", f"{spelled}: the value {old.problem or new.problem}", purpose="promotion")
    if old.value is None or new.value is None or new.n < LEAST_PERSONAL:
        why = f"{spelled}: {new.too_few(LEAST_PERSONAL)}, of those held back from learning"
        return Check(name, "unscored", why, new.value, purpose="promotion", is_required=True)
    if old.asked != new.asked:
        why = f"{spelled}: {new.asked}, and {old.asked} of the champion model, which cannot be compared"
        return Check(name, "failed", why, new.value, purpose="promotion")
    is_better = new.value > old.value
    why = f"{spelled}: {new.text(PERSONAL)}; the champion model has {_shown(PERSONAL, old.value)}"
    why += "" if is_better else ", and this one must be better"
    return Check(name, "passed" if is_better else "failed", why, new.value, old.value, "promotion")


def _check_files(findings: Sequence[object]) -> Check:
    if not findings:
        return Check("model_files", "passed", "the model's files hold weights and settings, and no program")
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return Check("model_files", "failed", f"the model's files: {findings[0]}{more}", len(findings), 0)


@dataclasses.dataclass(frozen=True)
class _Value:
    """A score as it was read: `problem` says what is wrong with one that is damaged."""

    value: float | None = None
    n: int = 0
    unscored: int = 0
    interval: tuple[float, float] | None = None
    reason: str = ""
    baseline: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    problem: str = ""

    @classmethod
    def of(cls, score: Any) -> _Value:
        if score is None:
            return cls(reason="not measured")
        if not isinstance(score, Mapping):
            return cls(problem="cannot be read; evaluate the run again")
        value, n, unscored = score.get("value"), score.get("n"), score.get("unscored", 0)
        if (value is not None and _number(value) is None) or not isinstance(n, int) or not isinstance(unscored, int):
            return cls(problem=f"is not a number: {value!r}; evaluate the run again")
        low, high = (
            map(_number, ends) if isinstance(ends := score.get("ci95"), list) and len(ends) == 2 else (None, None)
        )
        interval = (low, high) if low is not None and high is not None else None
        reason, baseline = str(score.get("reason") or ""), score.get("baseline")
        baseline = baseline if isinstance(baseline, Mapping) else {}
        return cls(_number(value), n if value is not None else 0, unscored, interval, reason, baseline)

    @property
    def asked(self) -> int:
        return self.n + self.unscored

    def too_few(self, least: int) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.n} scored tasks, and fewer than {least} say nothing{reason}"

    def text(self, metric: str) -> str:
        return f"{_shown(metric, self.value)} (n = {self.n})"


def _is_skill(metric: str) -> bool:
    if "/" in metric or metric in NO_SKILLS or metric.startswith(OWN_MACHINE):
        return False
    return metric.endswith(HIGHER_IS_BETTER + LOWER_IS_BETTER)


def _scores(document: Mapping[str, Any], name: str) -> Scores:
    found = document.get(name)
    return found if isinstance(found, Mapping) else {}


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "no value"
    return f"{value:.3g}" if metric.endswith(("_mrr", *LOWER_IS_BETTER)) else f"{value:.1%}"


def _number(value: Any) -> float | None:
    """`value` as a finite number, None where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
