"""The gate before export and promotion: the one module that writes and reads gate.json.

Takes the checks of checks.py; gives the decision that a run keeps, bound to the files of the model that was judged. Export asks it
here; promotion, which also notes there what it replaced, in learning/gate.py.

    judge_run(paths, thresholds)                   eval.json and the model's files -> gate.json
    read_gate(run)                                 -> Gate
    require_none(blocking, run, override_reason)   one line that refuses, or what the audit log has to keep of an override
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

from overseer_training.errors import DataError, ModelError, UsageError
from overseer_training.evaluation.checks import Check, Purpose, Thresholds, check_run
from overseer_training.files import write_json
from overseer_training.guards.model_files import list_hashes, validate_model_folder
from overseer_training.records import RunPaths

Outcome = Literal["passed", "failed", "undecided"]
FORMAT = 1
SHORTEST_REASON = 10  # characters; chosen: "ok" explains nothing to who reads the audit log later
LONGEST_REASON = 200  # characters of a name in the audit log
VERDICTS, PURPOSES = ("passed", "failed", "unscored"), ("export", "promotion")


@dataclasses.dataclass(frozen=True)
class Replaced:
    """The run whose place a run took, with SHA-256 by file of its model: what a rollback goes back to."""

    run: str
    model: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Gate:
    """What was decided about a run.

    Attributes:
        model: SHA-256 by file of the model that was judged.
        champion: the run that it was compared with; empty where there was none.
        replaced: None for a run that never took another one's place.
    """

    checks: tuple[Check, ...]
    model: Mapping[str, str]
    champion: str = ""
    replaced: Replaced | None = None

    @property
    def outcome(self) -> Outcome:
        """Whether the model may be exported: only where it passed. Undecided is what too little was measured of."""
        blocking = self.blocking("export")
        return "failed" if any(c.verdict == "failed" for c in blocking) else "undecided" if blocking else "passed"

    def blocking(self, purpose: Purpose) -> tuple[Check, ...]:
        """The checks of `purpose` that stand in its way."""
        return tuple(check for check in self.checks if check.is_blocking and check.purpose == purpose)

    def as_lines(self) -> list[str]:
        """One line for each check that stands in the way, one for all that are unscored, and one that sums up."""
        export, promotion = self.blocking("export"), self.blocking("promotion")
        lines = [f"{check.verdict}: {check.why}" for check in export]
        lines += [f"{check.verdict}, for promotion: {check.why}" for check in promotion]
        unscored = [check.name for check in self.checks if check.verdict == "unscored" and not check.is_blocking]
        if unscored:
            lines.append(f"unscored, so neither passed nor failed: {', '.join(unscored)}")
        of_promotion = f", {len(promotion)} in that of promotion" if promotion else ""
        return [
            *lines,
            f"gate {self.outcome}: {len(export)} of {len(self.checks)} checks in the way of export{of_promotion}",
        ]


def judge_run(paths: RunPaths, thresholds: Thresholds) -> Gate:
    """Judge the trained model by eval.json and write gate.json; which run it replaced stays in there.

    Raises:
        DataError: eval.json is missing or damaged.
        ModelError: the model folder holds something that is no plain file.
    """
    try:
        document = dict(json.loads(paths.evaluation.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{paths.evaluation} cannot be read ({error}); evaluate the run again") from error
    checks = check_run(document, thresholds, validate_model_folder(paths.model))
    model = list_hashes(paths.model)
    gate = Gate(tuple(checks), model, str(document.get("champion_run") or ""), _earlier_replacement(paths, model))
    write_gate(paths, gate)
    return gate


def write_gate(paths: RunPaths, gate: Gate) -> None:
    """Write gate.json."""
    document = {
        "format": FORMAT,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "outcome": gate.outcome,
        **dataclasses.asdict(gate),
    }
    write_json(paths.gate, document)


def read_gate(run: pathlib.Path) -> Gate:
    """What gate.json of `run` says.

    Raises:
        UsageError: the run was not judged.
        ModelError: the file is damaged, or does not agree with its own checks.
    """
    path = RunPaths(run).gate
    try:
        document = json.loads(path.read_text())
        checks = tuple(Check(**check) for check in document["checks"])
        replaced = Replaced(**document["replaced"]) if document["replaced"] is not None else None
        gate = Gate(checks, dict(document["model"]), str(document["champion"]), replaced)
        is_sound = document["format"] == FORMAT and document["outcome"] == gate.outcome and bool(checks)
        is_sound = is_sound and all(c.verdict in VERDICTS and c.purpose in PURPOSES and c.why for c in checks)
    except FileNotFoundError:
        raise UsageError(f"{run} has not been judged by the gate; type: overseer evaluate {run}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read ({error!r}); type: overseer evaluate {run}") from error
    if not is_sound:
        raise ModelError(f"{path} does not agree with its own checks; type: overseer evaluate {run}")
    return gate


def blocking_export(run: pathlib.Path) -> tuple[Check, ...]:
    """The checks that stand in the way of an export of `run`; also where its model is not the one that was judged.

    Raises:
        UsageError, ModelError: as `read_gate`.
    """
    gate = read_gate(run)
    return (*check_identity(run, gate), *gate.blocking("export"))


def check_identity(run: pathlib.Path, gate: Gate) -> tuple[Check, ...]:
    """A failed check where the model of `run` is not the one that `gate` is about."""
    if gate.model == list_hashes(RunPaths(run).model):
        return ()
    return (Check("model", "failed", "the model is not the one that was judged; evaluate the run again"),)


def require_none(blocking: Sequence[Check], run: pathlib.Path, override_reason: str = "") -> str:
    """Nothing where no check stands in the way; with a reason, the names of those that it overrides.

    Raises:
        UsageError: the reason says nothing, or too much for the audit log.
        ModelError: a check stands in the way, and there is no reason; the message names it.
    """
    reason = override_reason.strip()
    is_told = SHORTEST_REASON <= len(reason) <= LONGEST_REASON and reason.isprintable()
    if override_reason and not is_told:
        raise UsageError(
            f"--override needs a reason of one line, {SHORTEST_REASON} to {LONGEST_REASON} characters, not {reason[:40]!r}"
        )
    if not blocking:
        return ""
    if reason:
        return ", ".join(check.name for check in blocking)
    more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
    raise ModelError(
        f"{run} did not pass the gate: {blocking[0].name}: {blocking[0].why}{more}; train on, or give --override REASON"
    )


def _earlier_replacement(paths: RunPaths, model: Mapping[str, str]) -> Replaced | None:
    """What the run replaced, by an earlier gate.json about the same model."""
    try:
        earlier = read_gate(paths.root)
    except (UsageError, ModelError):
        return None
    return earlier.replaced if earlier.model == model else None
