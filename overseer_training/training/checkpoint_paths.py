"""Finding and verifying published checkpoints. Imports no torch, so that a wrong path is told before anything is loaded."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

from overseer_training.errors import CheckpointError
from overseer_training.files import sha256

FILES = ("weights.safetensors", "moments.safetensors", "state.json")


def list_checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """Published checkpoints, newest first; not verified."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def verify_checkpoint(path: pathlib.Path) -> str:
    """What is wrong with the checkpoint at `path`; empty when every file is what was written."""
    try:
        files = json.loads((path / "manifest.json").read_text())["files"]
        damaged = [name for name in FILES if not (path / name).is_file() or sha256(path / name) != files.get(name)]
    except (OSError, ValueError, KeyError, AttributeError):
        return "its manifest is missing or unreadable"
    return f"{', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged or missing" if damaged else ""


def find_checkpoint(path: pathlib.Path, notify: Callable[[str], None] = lambda message: None) -> pathlib.Path:
    """The checkpoint at `path`, or when it is damaged the newest valid one beside it; of a folder of checkpoints the newest valid.

    Raises:
        CheckpointError: none passes verification.
    """
    is_single = path.name.startswith("step-")
    folder = path.parent if is_single else path
    candidates = list_checkpoints(folder)
    if is_single:
        candidates = [path] + [other for other in candidates if other.name < path.name]
    for candidate in candidates:
        problem = verify_checkpoint(candidate)
        if not problem:
            return candidate
        notify(f"checkpoint {candidate.name} is not used: {problem}")
    raise CheckpointError(f"no valid checkpoint in {folder}; start a new run")
