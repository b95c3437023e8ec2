"""What a run needs to go on exactly: collected into a checkpoint, and put back from one.

Takes the optimizer, the back-off and the progress of a trainer. How files are written is `checkpoints.py`'s; when, the engine's.
"""

from __future__ import annotations

import dataclasses
import pathlib

import torch

from overseer_training.errors import CheckpointError
from overseer_training.training import batches, checkpoints
from overseer_training.training.back_off import BackOff
from overseer_training.training.optimizer import MasterAdamW
from overseer_training.training.progress import Progress
from overseer_training.training.random_state import random_state, set_random_state


class Checkpointer:
    """Saves and restores one trainer.

    Args:
        folder: where checkpoints are published.
        rows: digest of the training rows; a checkpoint that was made with others is refused.
        device: whose random numbers are drawn.

    Attributes:
        saved_step: the newest step that has a checkpoint; None before the first.
    """

    def __init__(
        self, folder: pathlib.Path, optimizer: MasterAdamW, back_off: BackOff, *, rows: str, device: str
    ) -> None:
        self.folder = folder
        self.saved_step: int | None = None
        self._optimizer, self._back_off, self._rows, self._device = optimizer, back_off, rows, device

    def save(self, progress: Progress) -> pathlib.Path:
        """Publish a checkpoint of this moment.

        Raises:
            TrainingError: it could not be written; earlier ones are untouched.
        """
        weights, moments = self._optimizer.state()
        state = {
            **dataclasses.asdict(progress),
            "token_budget": self._back_off.token_budget,
            "recomputes": self._back_off.recomputes,
            "random": random_state(self._device),
            "rows": self._rows,
            "order": batches.ORDER,
        }
        path = checkpoints.save_checkpoint(self.folder, checkpoints.Checkpoint(weights, moments, state))
        self.saved_step = progress.step
        return path

    def restore(self, checkpoint: checkpoints.Checkpoint) -> Progress:
        """Put everything back as it was when `checkpoint` was saved.

        Raises:
            CheckpointError: it is of another version of this program, another model, or other training rows.
        """
        state = dict(checkpoint.state)
        try:
            rows, random, recomputes = (state.pop(name) for name in ("rows", "random", "recomputes"))
            order, token_budget = state.pop("order"), state.pop("token_budget")
            progress = Progress(**state)
            if order != batches.ORDER:
                raise KeyError(order)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{checkpoint.path} is of another version of this program; start a new run"
            ) from error
        if rows != self._rows:
            raise CheckpointError(
                f"{checkpoint.path} was made with other training rows; resume the run that it belongs to"
            )
        if not self._optimizer.fits(checkpoint.weights, checkpoint.moments):
            raise CheckpointError(f"{checkpoint.path} is of another model; resume the run that it belongs to")
        self._optimizer.restore(checkpoint.weights, checkpoint.moments)
        self.saved_step = progress.step
        self._back_off.token_budget = min(self._back_off.token_budget, token_budget)
        if recomputes:
            self._back_off.recompute()
        set_random_state(random, self._device)
        return progress

    def save_best(self) -> str:
        """Keep the weights as the best so far; the digest by which they are known again."""
        return checkpoints.save_best(self.folder, self._weights())

    @torch.no_grad()
    def use_best(self, digest: str) -> bool:
        """Put the best weights into the model; False where they are damaged or missing."""
        best = checkpoints.load_best(self.folder, digest)
        for name, parameter in self._weights().items() if best else ():
            parameter.copy_(best[name])  # type: ignore[index]
        return best is not None

    def _weights(self) -> dict[str, torch.Tensor]:
        """As the model computes with them."""
        return dict(zip(self._optimizer.names, self._optimizer.parameters, strict=True))
