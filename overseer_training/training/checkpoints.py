"""Checkpoints that are either whole or not there: staged, flushed to disk, described by a manifest of hashes, then renamed.

    checkpoints/step-000500/  weights.safetensors  moments.safetensors  state.json  manifest.json (last)
    checkpoints/best.safetensors                   16-bit weights of the best validation so far

Takes and gives tensors by name and a plain dictionary. Does not know what a training step is.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from overseer_training.errors import TrainingError
from overseer_training.files import sha256, staged_file, sync_path, write_json
from overseer_training.training.checkpoint_paths import FILES, list_checkpoints

KEPT = 2  # newest checkpoints; an older one is deleted only after a newer one is whole


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
    """Publish `checkpoint` as folder/step-NNNNNN and drop the oldest ones.

    Raises:
        TrainingError: it could not be written; older checkpoints are untouched.
    """
    target = folder / f"step-{checkpoint.state['step']:06d}"
    staging = folder / f".staging-{target.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        save_file({name: tensor.contiguous().cpu() for name, tensor in checkpoint.weights.items()}, staging / FILES[0])
        save_file({name: tensor.contiguous().cpu() for name, tensor in checkpoint.moments.items()}, staging / FILES[1])
        (staging / FILES[2]).write_text(json.dumps(checkpoint.state))
        for name in FILES:
            sync_path(staging / name)
        write_json(staging / "manifest.json", {"files": {name: sha256(staging / name) for name in FILES}})
        shutil.rmtree(target, ignore_errors=True)  # a run that resumed before this step writes it again
        staging.rename(target)
        sync_path(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise TrainingError(
            f"checkpoint {target.name} could not be written: {error}. Earlier checkpoints are untouched; "
            "free disk space and go on with --resume-from-checkpoint latest"
        ) from error
    for old in list_checkpoints(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Read a checkpoint that `checkpoint_paths.find_checkpoint` verified."""
    state = json.loads((path / FILES[2]).read_text())
    return Checkpoint(load_file(path / FILES[0]), load_file(path / FILES[1]), state, path)


def save_best(folder: pathlib.Path, weights: dict[str, torch.Tensor]) -> None:
    """Keep `weights` as the best so far, whole or not at all."""
    try:
        with staged_file(folder / "best.safetensors") as staging:
            save_file({name: tensor.detach().to("cpu").contiguous() for name, tensor in weights.items()}, staging)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"the best weights could not be written: {error}; free disk space and resume") from error


def load_best(folder: pathlib.Path) -> dict[str, torch.Tensor] | None:
    """What `save_best` kept, or None."""
    path = folder / "best.safetensors"
    return load_file(path) if path.exists() else None
