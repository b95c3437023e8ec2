"""What leaves a run: exports, and the place of `runs/latest`. Both ask the gate, and both are in the audit log.

Takes a run that was evaluated; a check that stands in the way refuses, by name, unless a reason overrides it, which the audit log keeps.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from overseer_training import custody
from overseer_training.errors import OverseerError, UsageError
from overseer_training.guards.signatures import check_signature
from overseer_training.measuring import write_table
from overseer_training.records import RunPaths
from overseer_training.run_folder import point_latest

if TYPE_CHECKING:
    from overseer_training.evaluation.checks import Thresholds

Say = Callable[[str], None]


def export_run_folder(
    root: pathlib.Path,
    kinds: tuple[str, ...],
    parity_requests: int,
    say: Say,
    ollama_name: str = "overseer",
    override_reason: str = "",
) -> dict[str, Any]:
    """Export the model of the run at `root`, whose gate has to allow it; gives the manifest.

    Args:
        parity_requests: answers that are compared with those of the un-exported model.
        ollama_name: of the model in Ollama, for kind `ollama`.

    Raises:
        UsageError: there is no finished run at `root`, or it was not judged.
        ModelError: its gate failed, and no reason was given; or its model is not what was signed, which no reason overrides.
    """
    from overseer_training.evaluation.gate import blocking_export, require_none

    _require_model(root)
    overridden = require_none(blocking_export(root), root, override_reason)
    if overridden:
        _record_override("export", root, overridden, override_reason)
        say(f"  exported although the run did not pass its gate: {overridden}")
    return _export(root, kinds, parity_requests, say, ollama_name)


def export_own(root: pathlib.Path, parity_requests: int, say: Say, thresholds: Thresholds) -> dict[str, Any]:
    """The export that belongs to a run, in its own folder and marked where its gate failed: whoever trained it can look at it.

    Its parity joins the scores, and the gate judges once more.
    """
    manifest = _export(root, ("gguf-f16",), parity_requests, say, thresholds=thresholds)
    write_table(RunPaths(root))
    return manifest


def promote_run(root: pathlib.Path, override_reason: str = "") -> str:
    """Let `latest` beside the run point to it; gives the names of the checks that were overridden.

    Raises:
        UsageError: there is no finished run at `root`, it was not judged, or was compared with another champion.
        ModelError: a check stands in the way, and no reason was given; or the model is not what was signed.
    """
    from overseer_training.evaluation.gate import require_none
    from overseer_training.learning.gate import blocking_promotion, promote

    _require_model(root)
    root = root.resolve()
    latest = root.parent / "latest"
    try:
        overridden = require_none(blocking_promotion(root, latest), root, override_reason)
    except OverseerError:
        custody.record("promotion", run=root.name, decision="refused")
        raise
    if overridden:
        _record_override("promotion", root, overridden, override_reason)
    # Before it is done, as an override: a record that fails must not look like a promotion that failed.
    custody.record("promotion", run=root.name, decision="promoted")
    promote(root, latest, point_latest)
    return overridden


def _export(
    root: pathlib.Path,
    kinds: tuple[str, ...],
    parity_requests: int,
    say: Say,
    ollama_name: str = "overseer",
    thresholds: Thresholds | None = None,
) -> dict[str, Any]:
    from overseer_training.data.row_file import read_rows
    from overseer_training.export.export_run import export_run
    from overseer_training.export.ollama_server import OllamaServer
    from overseer_training.prompts import with_system

    paths = RunPaths(root)
    requests = []
    has_gguf = any(kind == "ollama" or kind.startswith("gguf") for kind in kinds)
    if parity_requests and has_gguf:
        rows = read_rows(paths.data)["test"]
        chosen = rows[:: max(1, len(rows) // parity_requests)][:parity_requests]
        requests = [with_system(example.turns[:1], example.platform) for example in chosen]
    say(f"  writing {', '.join(kinds)} to {paths.export}")
    ollama = OllamaServer(ollama_name) if "ollama" in kinds else None
    name = root.resolve().name
    custody.record("export", run=name, reason=", ".join(kinds)[: custody.SHORT])  # before, as overrides
    try:
        return export_run(paths, kinds, parity_requests=requests, ollama=ollama, thresholds=thresholds, notify=say)
    except OverseerError:
        with contextlib.suppress(OverseerError):  # the first problem is the one to tell
            custody.record("export", run=name, decision="failed")
        raise


def _record_override(event: Any, root: pathlib.Path, overridden: str, reason: str) -> None:
    """Before anything is done, so that no override goes without its entry."""
    decision = f"gate overridden: {overridden}"[: custody.SHORT]
    custody.record(event, run=root.resolve().name, action="override", decision=decision, reason=reason.strip())


def _require_model(root: pathlib.Path) -> None:
    if not (RunPaths(root).model / "overseer.json").exists():
        raise UsageError(f"{root} holds no trained model; train one with: make train")
    check_signature(RunPaths(root).model)
