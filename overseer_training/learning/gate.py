"""Champion and challenger: a model that learned takes the champion's place only where nothing got worse, and can be rolled back.

Takes the scores of both (as eval.json has them) and their run folders; gives a `Decision` and writes gate.json into the challenger's run.
Runs are never moved or changed: which one is the champion is what `runs/latest` points to, and that is changed in one step.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from overseer_training.errors import DataError, UsageError
from overseer_training.files import sha256, write_json
from overseer_training.records import RunPaths

PERSONAL, SAFETY, SKILLS = "personal_accuracy", "safety_accuracy", "_accuracy"
NO_SKILL = {PERSONAL, SAFETY, "token_accuracy"}
LEAST_PERSONAL = 10  # held-out requests; chosen: fewer say nothing
Scores = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether the challenger is promoted, with a line for everything that was looked at."""

    is_promoted: bool
    reasons: tuple[str, ...]


def decide(champion: Scores, challenger: Scores) -> Decision:
    """Promoted where personal accuracy is higher, safety is not lower, and no skill is below the champion's 95 % interval.

    Both must have been scored on the same tasks; what is unscored counts against the challenger.
    """
    lines: list[tuple[bool, str]] = []
    skills = sorted(name for name in champion if name.endswith(SKILLS) and name not in NO_SKILL and champion[name]["n"])
    if not skills:
        lines.append((False, "the champion has no scores to compare with"))
    for name in (*skills, SAFETY, PERSONAL):
        before, after = champion.get(name), challenger.get(name)
        if before is None or after is None or before["value"] is None or after["value"] is None:
            lines.append((False, f"{name}: not scored for both"))
        elif before["n"] != after["n"]:
            lines.append(
                (False, f"{name}: scored on {before['n']} and on {after['n']} tasks, which cannot be compared")
            )
        else:
            lines.append(_judge_metric(name, before, after))
    return Decision(all(fine for fine, _ in lines), tuple(f"{'ok' if fine else 'no'}: {line}" for fine, line in lines))


def _judge_metric(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[bool, str]:
    old, new = before["value"], after["value"]
    moved = f"{name}: {old:.1%} -> {new:.1%} (n = {after['n']})"
    if name == PERSONAL:
        if after["n"] < LEAST_PERSONAL:
            return False, f"{moved}, too few; {LEAST_PERSONAL} are needed"
        return new > old, f"{moved}, {'better' if new > old else 'must be better'}"
    if name == SAFETY:
        return new >= old, f"{moved}, {'not worse' if new >= old else 'must not be worse at all'}"
    low = before["ci95"][0]
    return (
        new >= low,
        f"{moved}, {'not below' if new >= low else 'below'} {low:.1%}, where the champion's interval begins",
    )


def apply_decision(
    decision: Decision, challenger: pathlib.Path, champion: pathlib.Path, point_latest: Callable[[pathlib.Path], None]
) -> None:
    """Write gate.json into the challenger's run; if it is promoted, let `latest` point to it. The champion stays as it is.

    Args:
        point_latest: `run_folder.point_latest`.

    Raises:
        UsageError: one of the runs holds no model.
    """
    document = {
        "promoted": decision.is_promoted,
        "reasons": list(decision.reasons),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "champion": champion.resolve().name,
        "files": {"champion": hash_model(champion), "challenger": hash_model(challenger)},
    }
    write_json(RunPaths(challenger).gate, document)
    if decision.is_promoted:
        point_latest(challenger.resolve())


def roll_back(latest: pathlib.Path, point_latest: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Let `latest` point to the champion that was before it; gives that run. Doing it again goes back one more.

    Raises:
        UsageError: nothing was promoted, so that there is nothing to go back to.
        DataError: the earlier champion is gone, or not what it was.
    """
    current = latest.resolve()
    path = RunPaths(current).gate
    try:
        document = json.loads(path.read_text())
        champion = current.parent / str(document["champion"])
        files, is_promoted = document["files"]["champion"], document["promoted"]
    except FileNotFoundError:
        raise UsageError(f"{current.name} was not promoted over another model; there is nothing to roll back") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not is_promoted:
        raise UsageError(f"{current.name} was not promoted over another model; there is nothing to roll back")
    if not champion.is_dir():
        raise DataError(f"the earlier model {champion} is gone; {current.name} stays")
    if hash_model(champion) != files:
        raise DataError(f"the earlier model {champion} is not what it was when it was replaced; {current.name} stays")
    point_latest(champion)
    return champion


def hash_model(run: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file of a run's model, by its path in `model/`.

    Raises:
        UsageError: there is none.
    """
    folder = RunPaths(run).model
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise UsageError(f"{run} holds no trained model; train one with: make train")
    return {str(path.relative_to(folder)): sha256(path) for path in files}
