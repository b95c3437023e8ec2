"""Finding and verifying published checkpoints. Imports no torch, so that a wrong path is told before anything is loaded."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

from overseer_training.errors import CheckpointError
from overseer_training.files import sha256

FILES = ("weights.safetensors", "moments.safetensors", "state.json")


def step_of(path: pathlib.Path) -> int:
    """The step in the name of a checkpoint; -1 where it is no checkpoint's name."""
    digits = path.name.removeprefix("step-")
    return int(digits) if path.name.startswith("step-") and digits.isdecimal() else -1


def list_checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """Published checkpoints, newest first; not verified."""
    return sorted(
        (path for path in folder.glob("step-*") if path.is_dir() and step_of(path) >= 0), key=step_of, reverse=True
    )


def verify_checkpoint(path: pathlib.Path) -> str:
    """What is wrong with the checkpoint at `path`; empty when every file is what was written."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        files, step = manifest["files"], manifest["step"]
        damaged = [name for name in FILES if _digest(path / name) != files.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "its manifest is missing or unreadable"
    if damaged:
        return f"{', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged or missing"
    return "" if step == step_of(path) else f"it was written as step {step} and carries another name"


def find_checkpoint(path: pathlib.Path, notify: Callable[[str], None] = lambda message: None) -> pathlib.Path:
    """The checkpoint at `path`, or when it is damaged the newest valid one beside it; of a folder of checkpoints the newest valid.

    Raises:
        CheckpointError: none passes verification.
    """
    is_single = step_of(path) >= 0
    folder = path.parent if is_single else path
    candidates = list_checkpoints(folder)
    if is_single:
        candidates = [path] + [other for other in candidates if step_of(other) < step_of(path)]
    for candidate in candidates:
        problem = verify_checkpoint(candidate)
        if not problem:
            return candidate
        notify(f"checkpoint {candidate.name} is not used: {problem}")
    raise CheckpointError(f"no valid checkpoint in {folder}; start a new run")


def _digest(path: pathlib.Path) -> str:
    """SHA-256 of a file; empty where it cannot be read, as on a bad sector."""
    try:
        return sha256(path)
    except OSError:
        return ""
