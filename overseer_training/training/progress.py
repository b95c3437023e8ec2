"""What changes while training, what a process made of a step, and how training ended. Holds values; decides nothing."""

from __future__ import annotations

import dataclasses
from signal import Signals
from typing import Literal

Reason = Literal["finished", "early_stop", "time_budget", "interrupted", "memory_limit"]


@dataclasses.dataclass
class Progress:
    """Everything that changes while training, and is saved with it."""

    step: int = 0
    total_steps: int = 0
    tokens: int = 0
    examples: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    best_sha256: str = ""
    validated_step: int = 0
    validations_without_gain: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How training ended."""

    reason: Reason
    progress: Progress
    exit_code: int = 0
    message: str = ""


@dataclasses.dataclass
class Share:
    """What one process made of its rows of a step, or of a validation.

    Attributes:
        loss: its part of the step's, in nats per answer token of the step; of a validation the sum in nats.
        right, count: answer tokens of a validation that were right, and all of them.
        problem: the memory limit that stopped it; empty without one.
        signal: what asked it to end.
    """

    loss: float = 0.0
    right: int = 0
    count: int = 0
    problem: str = ""
    signal: Signals | None = None
