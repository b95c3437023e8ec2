"""Training in several processes: what the first one hands to the others, and what those do with it.

The first process prepares, prints, saves and evaluates, as one that is alone. The others need no data, no weights and no flags of
their own: plan, rows and weights come from it, they learn from their share of each step, and they end when training ends.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import tempfile
from typing import Any

import numpy as np
import torch

from overseer_training.config.plan import Plan
from overseer_training.data.tokenize import TokenSet
from overseer_training.errors import ModelError
from overseer_training.models.load import Architecture, architecture_of, build_to_train
from overseer_training.training.batches import Schedule
from overseer_training.training.distributed import World
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals

PART = 1 << 22  # numbers that travel together: 16 MiB of ids


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Everything that a process must know before it can train, but for tokens and weights."""

    plan: Plan
    architecture: Architecture


def hand_out(world: World, plan: Plan, model: Any, train: TokenSet, validation: TokenSet) -> None:
    """Give the other processes what they need; called by the first one, which may measure steps next, and agrees on a start then."""
    if world.size == 1:
        return
    world.share(Assignment(plan, architecture_of(model)))
    for tokens in (train, validation):
        share_tokens(world, tokens)
    world.use(plan.device)
    _copy_weights(world, model)


def measure_step(world: World, trainer: Trainer, schedule: Schedule) -> float:
    """Seconds of a step of `schedule`, which all processes make together; called by the first one."""
    world.share(schedule)
    return trainer.measure_step_seconds(schedule)


def agree_on_start(world: World, trainer: Trainer, schedule: Schedule) -> Schedule:
    """Let every process go on from the first one's weights, counters and plan; called by the first one, whose schedule is that of all."""
    world.share(None)  # nothing more is measured
    return _go_on_from_first(world, trainer, schedule)


def _go_on_from_first(world: World, trainer: Trainer, schedule: Schedule | None) -> Schedule:
    trainer.copy_from_first()
    trainer.plan, agreed = world.share((trainer.plan, schedule))
    assert agreed is not None  # the first process has one
    return agreed


def follow(world: World) -> int:
    """Train as the first process says; the exit code.

    Raises:
        OverseerError: this process cannot go on, or another one ended.
    """
    assignment: Assignment = world.share(None)  # type: ignore[assignment]
    plan, train, validation = assignment.plan, share_tokens(world), share_tokens(world)
    world.use(plan.device)
    torch.manual_seed(plan.seed)
    model = build_to_train(assignment.architecture, plan, int(train.lengths.max()))
    _copy_weights(world, model)
    model.train()
    trainer = Trainer(
        model,
        train,
        validation,
        plan,
        folder=pathlib.Path(),  # never written to
        listener=lambda event: None,
        world=world,
    )
    while (measured := world.share(None)) is not None:
        trainer.measure_step_seconds(measured)
    schedule = _go_on_from_first(world, trainer, None)
    with StopSignals() as stop:
        outcome = trainer.run(schedule, stop)
    world.leave()
    return outcome.exit_code


def share_tokens(world: World, tokens: TokenSet | None = None) -> TokenSet:
    """The tokens that the first process gives, part by part, so that none holds them twice; on disk where they are on disk there."""
    about: Any = world.share(None if tokens is None else (tokens.too_long, tokens.known_digest, tokens.is_mapped))
    too_long, digest, is_mapped = about
    ids, labels, starts = (
        _share_array(world, None if tokens is None else getattr(tokens, name), is_mapped=is_mapped)
        for name in ("ids", "labels", "starts")
    )
    return TokenSet(ids, labels, starts, too_long, digest, is_mapped)


def _share_array(world: World, values: Any, *, is_mapped: bool) -> Any:
    parts: Any = world.share(None if values is None else max(1, math.ceil(len(values) / PART)))
    with tempfile.TemporaryFile() as file:  # has no name, and goes with this process
        received = []
        for number in range(parts):
            part: Any = world.share(None if values is None else np.array(values[number * PART : (number + 1) * PART]))
            if values is None and is_mapped:
                file.write(part.data)
            elif values is None:
                received.append(part)
        if values is not None:
            return values
        file.flush()
        return np.asarray(np.memmap(file, part.dtype, "r")) if is_mapped else np.concatenate(received)


def _copy_weights(world: World, model: torch.nn.Module) -> None:
    """Let the models of all processes have the first one's weights.

    Raises:
        ModelError: a process has built another model, which a library of another version may do.
    """
    numbers = dict([*model.named_parameters(), *model.named_buffers()])
    layouts = world.gather([(name, tuple(tensor.shape), tensor.dtype) for name, tensor in numbers.items()])
    for rank, layout in enumerate(layouts):
        if layout != layouts[0]:
            raise ModelError(
                f"process {rank} has built another model than the first one; install the same versions on all hosts"
            )
    world.copy_from_first(list(numbers.values()))
