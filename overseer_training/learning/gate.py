"""Champion and challenger: a model takes the place of another only where the gate has nothing against it, and can be rolled back.

Takes run folders whose gate.json `evaluation/gate.py` wrote; notes there what a promoted run replaced. Runs are never moved or changed:
which one is the champion is what `runs/latest` points to, and that is changed in one step.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

from overseer_training.errors import DataError, ModelError, UsageError
from overseer_training.evaluation.checks import Check, Scores, Thresholds, check_challenger
from overseer_training.evaluation.gate import Replaced, check_identity, read_gate, write_gate
from overseer_training.files import sha256
from overseer_training.guards.signatures import check_signature
from overseer_training.records import RunPaths

PointLatest = Callable[[pathlib.Path], None]  # `run_folder.point_latest`


@dataclasses.dataclass(frozen=True)
class Decision:
    """Whether a challenger would be promoted, with a check for everything that was looked at."""

    checks: tuple[Check, ...]

    @property
    def is_promoted(self) -> bool:
        return not any(check.is_blocking for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """One line a check."""
        return tuple(f"{check.verdict}: {check.why}" for check in self.checks)


def decide(champion: Scores, challenger: Scores, thresholds: Thresholds | None = None) -> Decision:
    """Promoted where personal accuracy is higher, safety is not lower, and no skill is below the champion's 95 % interval.

    Args:
        champion, challenger: scores on the same tasks, by metric, as eval.json has them.
    """
    return Decision(tuple(check_challenger(champion, challenger, thresholds or Thresholds())))


def blocking_promotion(run: pathlib.Path, latest: pathlib.Path) -> tuple[Check, ...]:
    """The checks that stand in the way of `run` becoming what `latest` points to.

    A run whose gate failed takes the place of nothing, or of a run whose gate failed too: it is never kept from being used by something
    that is no better, and never displaces what passed. Against a champion that it was compared with, nothing is spared.

    Raises:
        UsageError: the run was not judged, or was compared with another champion than `latest` is now.
        ModelError: its gate.json is damaged.
    """
    gate = read_gate(run)
    blocking = (*check_identity(run, gate), *gate.blocking("promotion"))
    champion = _champion(run, latest)
    if champion is None:
        return check_identity(run, gate)
    if gate.champion and gate.champion != champion.name:
        raise UsageError(
            f"{run.name} was compared with {gate.champion}, and {latest} is {champion.name} now; type: overseer evaluate {run}"
        )
    return blocking if _has_failed(champion) else (*blocking, *gate.blocking("export"))


def promote(run: pathlib.Path, latest: pathlib.Path, point_latest: PointLatest) -> None:
    """Let `latest` point to `run`, whatever its gate says, and note in its gate.json what was there, for a rollback.

    Raises:
        UsageError: the run was not judged, or holds no model.
        ModelError: its gate.json is damaged.
    """
    gate, champion = read_gate(run), _champion(run, latest)
    hash_model(run)
    if champion is not None:
        write_gate(RunPaths(run), dataclasses.replace(gate, replaced=Replaced(champion.name, hash_model(champion))))
    point_latest(run.resolve())


def roll_back(latest: pathlib.Path, point_latest: PointLatest) -> pathlib.Path:
    """Let `latest` point to the champion that was before it; gives that run. Doing it again goes back one more.

    Raises:
        UsageError: nothing was promoted, so that there is nothing to go back to.
        ModelError: gate.json is damaged, or the earlier champion is not what was signed.
        DataError: the earlier champion is gone, or not what it was.
    """
    current = latest.resolve()
    replaced = read_gate(current).replaced if RunPaths(current).gate.exists() else None
    if replaced is None:
        raise UsageError(f"{current.name} was not promoted over another model; there is nothing to roll back")
    champion = current.parent / replaced.run
    if not champion.is_dir():
        raise DataError(f"the earlier model {champion} is gone; {current.name} stays")
    check_signature(RunPaths(champion).model)
    if hash_model(champion) != replaced.model:
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


def _champion(run: pathlib.Path, latest: pathlib.Path) -> pathlib.Path | None:
    """The run whose place `run` would take; None where there is no other one with a model."""
    champion = latest.resolve()
    has_model = any(path.is_file() for path in RunPaths(champion).model.rglob("*"))
    return champion if has_model and champion != run.resolve() else None


def _has_failed(run: pathlib.Path) -> bool:
    """Whether `run` is known not to have passed its gate; of a run of before there was one nothing is known."""
    try:
        gate = read_gate(run)
    except (UsageError, ModelError):
        return False
    return gate.outcome != "passed"
