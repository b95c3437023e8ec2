"""Checkpoints that are either whole or not there: staged, flushed to disk, described by a manifest of hashes, then renamed.

    checkpoints/step-000500/  weights.safetensors  moments.safetensors  state.json  best.safetensors  manifest.json (last)
    checkpoints/best.safetensors                   weights of the best validation so far, as the model computes with them

Each checkpoint has the best weights of its moment, as a second name of the same file. Takes and gives tensors by name and a plain
dictionary. Does not know what a training step is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from overseer_training.errors import CheckpointError, TrainingError
from overseer_training.files import make_folder, replace_folder, sha256, staged_file, sync_path, write_json
from overseer_training.training.checkpoint_paths import FILES, list_checkpoints, step_of

KEPT = 2  # newest checkpoints; an older one is deleted only after a newer one is whole
BEST = "best.safetensors"


@dataclasses.dataclass
class Checkpoint:
    """What a run needs to go on exactly.

    Attributes:
        weights: trainable parameters in fp32, by name.
        moments: Adam's, by name; see `optimizer.MasterAdamW.state`.
        state: step, counters, best validation, random generators; JSON values only.
    """

    weights: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    state: dict[str, Any]
    path: pathlib.Path | None = None


def save_checkpoint(folder: pathlib.Path, checkpoint: Checkpoint) -> pathlib.Path:
    """Publish `checkpoint` as folder/step-NNNNNN, with the best weights so far; drop the oldest ones, and those of later
    steps: a run that went back before them has left them.

    Raises:
        TrainingError: it could not be written; older checkpoints are untouched.
    """
    target = folder / f"step-{checkpoint.state['step']:06d}"
    staging = folder / f".staging-{target.name}"
    try:
        make_folder(folder)
        _clear_leftovers(folder)
        staging.mkdir()
        save_file({name: tensor.contiguous().cpu() for name, tensor in checkpoint.weights.items()}, staging / FILES[0])
        save_file({name: tensor.contiguous().cpu() for name, tensor in checkpoint.moments.items()}, staging / FILES[1])
        (staging / FILES[2]).write_text(json.dumps(checkpoint.state))
        if checkpoint.state.get("best_sha256") and (folder / BEST).exists():
            _give_second_name(folder / BEST, staging / BEST)
        for name in FILES:
            sync_path(staging / name)
        digests = {name: sha256(staging / name) for name in FILES}
        write_json(staging / "manifest.json", {"step": checkpoint.state["step"], "files": digests})
        replace_folder(staging, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise TrainingError(
            f"checkpoint {target.name} could not be written: {error}. Earlier checkpoints are untouched; "
            "free disk space and go on with --resume-from-checkpoint latest"
        ) from error
    _drop_outdated(folder, checkpoint.state["step"])
    return target


def load_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Read a checkpoint that `checkpoint_paths.find_checkpoint` verified.

    Raises:
        CheckpointError: it cannot be read after all.
    """
    try:
        state = json.loads((path / FILES[2]).read_text())
        return Checkpoint(load_file(path / FILES[0]), load_file(path / FILES[1]), state, path)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; resume from an earlier checkpoint") from error


def save_best(folder: pathlib.Path, weights: dict[str, torch.Tensor]) -> str:
    """Keep `weights` as the best so far, whole or not at all; the SHA-256 of the file."""
    try:
        with staged_file(folder / BEST) as staging:
            save_file({name: tensor.detach().to("cpu").contiguous() for name, tensor in weights.items()}, staging)
            return sha256(staging)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"the best weights could not be written: {error}; free disk space and resume") from error


def load_best(folder: pathlib.Path, digest: str) -> dict[str, torch.Tensor] | None:
    """What `save_best` kept; None where it is gone, or is not what `digest` was taken of."""
    path = folder / BEST
    return load_file(path) if path.exists() and sha256(path) == digest else None


def restore_best(checkpoint: pathlib.Path, digest: str) -> bool:
    """Make the best weights of `checkpoint` those of its folder again; False where they are gone or damaged."""
    kept, current = checkpoint / BEST, checkpoint.parent / BEST
    staging = checkpoint.parent / f".{BEST}.restored"
    try:
        if sha256(kept) != digest:
            return False
        staging.unlink(missing_ok=True)
        _give_second_name(kept, staging)
        staging.replace(current)
        staging.unlink(missing_ok=True)  # renaming one name of a file over another of the same file does nothing
    except OSError:
        return False
    return True


def _give_second_name(path: pathlib.Path, other: pathlib.Path) -> None:
    """A hard link, or a copy on file systems without them."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
        sync_path(other)


def _clear_leftovers(folder: pathlib.Path) -> None:
    """Delete what a run that was killed in the middle of a save left; the folder is this run's alone."""
    for path in (*folder.glob(".staging-*"), *folder.glob(".old-*"), *folder.glob(f".{BEST}.*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _drop_outdated(folder: pathlib.Path, step: int) -> None:
    """Delete all but the `KEPT` newest checkpoints up to `step`; each vanishes in one moment."""
    found = list_checkpoints(folder)
    later = [path for path in found if step_of(path) > step]
    with contextlib.suppress(OSError):  # the new checkpoint is safe; what stays goes after the next one
        for path in later + found[len(later) :][KEPT:]:
            aside = path.rename(folder / f".old-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
        if later:
            sync_path(folder)
