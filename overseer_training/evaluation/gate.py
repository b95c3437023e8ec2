"""The gate before export and promotion: a model that fails it stays where it is, and gate.json says why.

Takes eval.json, thresholds, and the findings of model validation; gives checks, each with its value, its limit and its reason. What is
missing, unscored or not a number fails. Never reads a model's answers: the scorers do.

    evaluate_gate(document, thresholds, findings)   -> what gate.json holds
    write_gate(paths, document)                     binds it to the model's files
    require_passed(run, override_reason)            what export and promotion call
"""

from __future__ import annotations

import fnmatch
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer_training.errors import ModelError, UsageError
from overseer_training.files import write_json
from overseer_training.guards.model_files import list_hashes
from overseer_training.records import RunPaths

Document = Mapping[str, Any]
MODEL = "trained"  # whose scores are judged
# Metrics whose name ends so are compared with other models and with baselines; parts such as `later_turn_accuracy/refine` are too small.
HIGHER_IS_BETTER = ("_accuracy", "_f1", "_mrr", "_hit_at_1", "_hit_at_3", "_anomaly_metric")
LOWER_IS_BETTER = ("_brier", "_scaled_error", "_loss")
LIMITS = ("at_most", "at_least")
KEYS = (*LIMITS, "not_worse_than", "may_stay_below_baseline")
SHORTEST_REASON = 10  # characters; chosen: "ok" explains nothing to who reads the audit log later


def threshold_problems(thresholds: Any) -> list[str]:
    """What is wrong with the thresholds of training_config.py; nothing where they can be used."""
    if not isinstance(thresholds, Mapping):
        return ["the gate's thresholds must be a mapping"]
    problems = [
        f"the gate has no threshold {key!r}; there are {', '.join(KEYS)}" for key in thresholds if key not in KEYS
    ]
    for key in LIMITS:
        limits = thresholds.get(key, {})
        if not isinstance(limits, Mapping):
            problems.append(f"{key} must be a mapping of metrics to numbers")
            continue
        problems += [
            f"{key}: the limit of {name} must be a number, not {limit!r}"
            for name, limit in limits.items()
            if _number(limit) is None
        ]
    for key in KEYS[2:]:
        names = thresholds.get(key, [])
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            problems.append(f"{key} must be a list of names")
    return problems


def evaluate_gate(
    document: Document, thresholds: Document, validation_findings: Sequence[object] = ()
) -> dict[str, Any]:
    """The checks of one model: `{"passed", "checks": [{"name", "passed", "allowed", "value", "limit", "why"}]}`.

    The gate is passed where every check is, or is `allowed` to fail: a metric that does not beat its best baseline, where the
    thresholds name it. A metric with a limit of its own is held to that limit alone.

    Args:
        document: eval.json: scores of `trained`, and of each model that `not_worse_than` names (`base` must be there, `champion` may).
        thresholds: `at_most` and `at_least`, metric -> limit; `not_worse_than`, models; `may_stay_below_baseline`, patterns of metrics.
        validation_findings: of `guards.model_files`; any of them fails.

    Raises:
        UsageError: the thresholds are not valid.
    """
    problems = threshold_problems(thresholds)
    if problems:
        raise UsageError("; ".join(problems))
    checks = [_validation_check(validation_findings)]
    scores = document.get(MODEL)
    if not isinstance(scores, Mapping) or not scores:
        checks.append(_check("evaluation", False, None, None, "there are no scores; evaluate the run first"))
    else:
        checks += _limit_checks(scores, thresholds)
        checks += _comparison_checks(document, scores, thresholds)
        checks += _baseline_checks(scores, thresholds)
    return {"passed": all(check["passed"] or check["allowed"] for check in checks), "checks": checks}


def write_gate(paths: RunPaths, document: Document) -> None:
    """Write gate.json with the hashes of the model that was judged, so that it says nothing about another one.

    Raises:
        ModelError: the model folder holds something that is no plain file.
    """
    write_json(paths.gate, {**document, "model": list_hashes(paths.model)})


def require_passed(run: pathlib.Path, override_reason: str = "") -> dict[str, Any] | None:
    """Nothing where the model of `run` passed the gate; with a reason, what the audit log has to keep of an override.

    Returns:
        None, or `{"run", "failed": names of the failed checks, "reason"}` for a gate that was overridden.

    Raises:
        UsageError: the run was not judged, or the reason says nothing.
        ModelError: it failed, or its model is not the one that was judged; the message names the first failed check.
    """
    paths = RunPaths(run)
    if override_reason and len(override_reason.strip()) < SHORTEST_REASON:
        raise UsageError(
            f"overriding the gate needs a reason of {SHORTEST_REASON} characters or more, not {override_reason!r}"
        )
    failed = _failed_checks(paths)
    if not failed:
        return None
    if override_reason:
        return {"run": run.name, "failed": [check["name"] for check in failed], "reason": override_reason.strip()}
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    raise ModelError(
        f"{run} did not pass the gate: {failed[0]['name']}: {failed[0]['why']}{more}; train on, or override it with a reason"
    )


def format_gate(document: Document) -> list[str]:
    """One line for each check that failed, and one that sums up."""
    failed = [check for check in document["checks"] if not check["passed"]]
    lines = [f"{'allowed' if check['allowed'] else 'failed'}: {check['name']}: {check['why']}" for check in failed]
    return [
        *lines,
        f"gate {'passed' if document['passed'] else 'failed'}: {len(document['checks'])} checks, {len(failed)} failed",
    ]


def _failed_checks(paths: RunPaths) -> list[dict[str, Any]]:
    try:
        document = json.loads(paths.gate.read_text())
        checks, judged, is_passed = list(document["checks"]), document["model"], document["passed"]
        failed = [check for check in checks if not (check["passed"] is True or check["allowed"] is True)]
        said = [(check["name"], check["why"]) for check in failed]
    except FileNotFoundError:
        raise UsageError(f"{paths.root} has not been judged by the gate; evaluate it first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{paths.gate} cannot be read ({error!r}); evaluate the run again") from error
    if not checks or (is_passed is not True and not said):
        raise ModelError(f"{paths.gate} holds no checks that explain it; evaluate the run again")
    if judged != list_hashes(paths.model):
        failed.insert(
            0, _check("model", False, None, None, "the model is not the one that was judged; evaluate it again")
        )
    return failed


def _validation_check(findings: Sequence[object]) -> dict[str, Any]:
    why = (
        f"{findings[0]}" + (f" (and {len(findings) - 1} more)" if len(findings) > 1 else "")
        if findings
        else "nothing found"
    )
    return _check("model_files", not findings, len(findings), 0, why)


def _limit_checks(scores: Document, thresholds: Document) -> Iterator[dict[str, Any]]:
    for key in LIMITS:
        for metric, limit in thresholds.get(key, {}).items():
            value, why = _value(scores.get(metric))
            if value is None:
                yield _check(metric, False, None, limit, why)
                continue
            is_fine = value <= limit if key == "at_most" else value >= limit
            yield _check(
                metric,
                is_fine,
                value,
                limit,
                f"{value:.4g}{why} where {limit:g} is the {'most' if key == 'at_most' else 'least'}",
            )


def _comparison_checks(document: Document, scores: Document, thresholds: Document) -> Iterator[dict[str, Any]]:
    for model in thresholds.get("not_worse_than", ()):
        others = document.get(model)
        if not isinstance(others, Mapping) or not others:
            if model == "base":
                yield _check("not_worse_than/base", False, None, None, "the base model has no scores to compare with")
            continue
        for metric in sorted(others.keys() & _directed(others, thresholds)):
            name = f"not_worse_than/{model}/{metric}"
            value, why = _value(scores.get(metric))
            other, other_why = _value(others[metric])
            if value is None:
                yield _check(name, False, None, other, why)
                continue
            if other is None:
                yield _check(name, True, value, None, f"{value:.4g}{why}; {model}: {other_why}")
                continue
            is_higher_better = metric.endswith(HIGHER_IS_BETTER)
            interval = others[metric].get("ci95") or (other, other)
            limit = interval[0] if is_higher_better else interval[1]
            is_fine = value >= limit if is_higher_better else value <= limit
            yield _check(
                name, is_fine, value, limit, f"{value:.4g}{why} where {model} has {other:.4g}, at worst {limit:.4g}"
            )


def _baseline_checks(scores: Document, thresholds: Document) -> Iterator[dict[str, Any]]:
    for metric in sorted(_directed(scores, thresholds)):
        score = scores[metric]
        baselines = {
            name: number for name, number in (score.get("baseline") or {}).items() if _number(number) is not None
        }
        if not baselines:
            continue
        is_higher_better = metric.endswith(HIGHER_IS_BETTER)
        name = (max if is_higher_better else min)(baselines, key=lambda name: baselines[name])
        value, why = _value(score)
        is_fine = value is not None and (value > baselines[name] if is_higher_better else value < baselines[name])
        allowed = any(fnmatch.fnmatchcase(metric, pattern) for pattern in thresholds.get("may_stay_below_baseline", ()))
        said = why if value is None else f"{value:.4g}{why} where {name} has {baselines[name]:.4g}"
        yield _check(f"baseline/{metric}", is_fine, value, baselines[name], said, allowed=allowed and not is_fine)


def _directed(scores: Document, thresholds: Document) -> set[str]:
    """Metrics of which more, or less, is better, and that have no limit of their own."""
    limited = {metric for key in LIMITS for metric in thresholds.get(key, {})}
    return {name for name in scores if "/" not in name and name.endswith(HIGHER_IS_BETTER + LOWER_IS_BETTER)} - limited


def _value(score: Any) -> tuple[float | None, str]:
    """A score's value and its n in words, or None and why there is none."""
    if not isinstance(score, Mapping):
        return None, "not measured"
    value = score.get("value")
    if value is None:
        return None, f"not scored: {score.get('reason') or 'no reason was given'}"
    number = _number(value)
    return (number, f" (n = {score.get('n')})") if number is not None else (None, f"not a number: {value!r}")


def _number(value: Any) -> float | None:
    """`value` as a finite number, None where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _check(
    name: str, passed: bool, value: float | None, limit: float | None, why: str, *, allowed: bool = False
) -> dict[str, Any]:
    return {"name": name, "passed": passed, "allowed": allowed, "value": value, "limit": limit, "why": why}
