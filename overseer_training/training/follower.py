"""Training in several processes: what the first one hands to the others, and what those do with it.

The first process prepares, prints, saves and evaluates, as one that is alone. The others need no data, no weights and no flags of
their own: plan, rows and weights come from it, they learn from their share of each step, and they end when training ends.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import torch

from overseer_training.config.plan import Plan
from overseer_training.data.tokenize import TokenSet
from overseer_training.errors import ModelError
from overseer_training.models.load import Architecture, architecture_of, build_to_train
from overseer_training.training.batches import Schedule
from overseer_training.training.distributed import World
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals


@dataclasses.dataclass(frozen=True)
class Assignment:
    """Everything that a process must know before it can train, but for the weights.

    Attributes:
        is_resumed: no speed is measured then, since the plan is made.
    """

    plan: Plan
    architecture: Architecture
    train: TokenSet
    validation: TokenSet
    schedule: Schedule
    is_resumed: bool


def hand_out(
    world: World,
    plan: Plan,
    model: Any,
    train: TokenSet,
    validation: TokenSet,
    schedule: Schedule,
    *,
    is_resumed: bool,
) -> None:
    """Give the other processes what they need; called by the first one, which must measure or restore next, as they do."""
    if world.size == 1:
        return
    world.share(Assignment(plan, architecture_of(model), train, validation, schedule, is_resumed))
    world.use(plan.device)
    _copy_weights(world, model)


def agree_on_start(world: World, trainer: Trainer, schedule: Schedule) -> Schedule:
    """Let every process go on from the first one's weights, counters and plan; the schedule of all."""
    trainer.copy_from_first()
    trainer.plan, schedule = world.share((trainer.plan, schedule))
    return schedule


def follow(world: World) -> int:
    """Train as the first process says; the exit code.

    Raises:
        OverseerError: this process cannot go on, or another one ended.
    """
    assignment: Assignment = world.share(None)  # type: ignore[assignment]
    plan, train = assignment.plan, assignment.train
    world.use(plan.device)
    torch.manual_seed(plan.seed)
    model = build_to_train(assignment.architecture, plan, int(train.lengths.max()))
    _copy_weights(world, model)
    model.train()
    trainer = Trainer(
        model,
        train,
        assignment.validation,
        plan,
        folder=pathlib.Path(),  # never written to
        listener=lambda event: None,
        world=world,
    )
    if not assignment.is_resumed:
        trainer.measure_step_seconds(assignment.schedule)
    schedule = agree_on_start(world, trainer, assignment.schedule)
    with StopSignals() as stop:
        outcome = trainer.run(schedule, stop)
    world.leave()
    return outcome.exit_code


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
