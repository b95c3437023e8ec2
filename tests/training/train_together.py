"""One of the processes of `test_distributed.py`: trains the tiny model several times, and writes down what it saw.

    RANK=… WORLD_SIZE=… … python train_together.py FOLDER

Every scenario is a folder in FOLDER: checkpoints, and for each process `rows-RANK.json` and what became of the first one, `first.json`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch
from conftest import build_model, build_plan, make_tokens

from overseer_training.config.launch import find_launch
from overseer_training.errors import LostProcessError
from overseer_training.models.load import add_adapter, architecture_of, build_to_train
from overseer_training.training.batches import Schedule
from overseer_training.training.checkpoint_paths import find_checkpoint
from overseer_training.training.checkpoints import load_checkpoint
from overseer_training.training.distributed import World, join
from overseer_training.training.engine import Trainer
from overseer_training.training.follower import agree_on_start, follow, hand_out, measure_step
from overseer_training.training.stop_signals import StopSignals

STEPS, ROWS = 8, 40


@dataclasses.dataclass(frozen=True)
class Scenario:
    """How one training goes; `at_step` is called by the second process in each step, with its number."""

    name: str
    flags: tuple[str, ...] = ()
    resumes: bool = False
    at_step: Callable[[int], None] = lambda step: None


def stop_in_step_4(step: int) -> None:
    if step == 4:
        os.kill(os.getpid(), signal.SIGTERM)


def die_in_step_3(step: int) -> None:
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)


SCENARIOS = (
    Scenario("whole"),
    Scenario("stopped", at_step=stop_in_step_4),
    Scenario("resumed", resumes=True),
    Scenario("adapters", flags=("--method", "lora", "--precision", "bf16")),
    Scenario("killed", at_step=die_in_step_3),
)


def main(root: pathlib.Path) -> int:
    world = join(find_launch())
    world.leave = lambda: None  # type: ignore[method-assign]  # there is a next scenario
    learn = Trainer._accumulate
    for scenario in SCENARIOS:
        folder = root / scenario.name
        folder.mkdir(exist_ok=True)
        seen: list[tuple[int, list[int]]] = []
        Trainer._accumulate = noting(learn, seen, scenario.at_step if world.rank else lambda step: None)  # type: ignore[method-assign]
        if world.rank == 0:
            lead(world, scenario, folder)
        else:
            follow(world)
        (folder / f"rows-{world.rank}.json").write_text(json.dumps(seen))
    return 0


def noting(learn: Callable[..., float], seen: list[tuple[int, list[int]]], at_step: Callable[[int], None]) -> Any:
    """`learn`, which notes what it learns from, and when."""

    def note(trainer: Trainer, rows: list[int], answer_tokens: int) -> float:
        if answer_tokens > 1:  # not while speed is measured
            seen.append((trainer.progress.step, rows))
            at_step(trainer.progress.step)
        return learn(trainer, rows, answer_tokens)

    return note


def lead(world: World, scenario: Scenario, folder: pathlib.Path) -> None:
    plan = build_plan("--max-steps", str(STEPS), "--eval-steps", "3", *scenario.flags)
    torch.manual_seed(plan.seed)
    source = build_model("fp32")
    model: Any = build_to_train(architecture_of(source), plan, longest_row=20)
    model.load_state_dict(source.state_dict())
    if plan.method == "lora":
        model = add_adapter(model, rank=4, alpha=8, dropout=0.0, use_dora=False)
    train, validation = make_tokens(ROWS), make_tokens(8, seed=1)
    schedule = Schedule(ROWS, plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
    hand_out(world, plan, model, train, validation)
    events: list[Any] = []
    trainer = Trainer(model, train, validation, plan, folder=folder, listener=events.append, world=world)
    if scenario.resumes:
        trainer.restore(load_checkpoint(find_checkpoint(folder)))
    else:
        measure_step(world, trainer, schedule)
    schedule = agree_on_start(world, trainer, schedule)
    with StopSignals() as stop:
        try:
            outcome = trainer.run(schedule, stop)
            reason, code = str(outcome.reason), outcome.exit_code
        except LostProcessError as error:
            reason, code = str(error), error.exit_code
    document = {
        "reason": reason,
        "exit_code": code,
        "best_step": trainer.progress.best_step,
        "losses": [event["loss"] for event in events if event["kind"] == "train"],
        "validation": [(event["loss"], event["n_tokens"]) for event in events if event["kind"] == "validation"],
    }
    (folder / "first.json").write_text(json.dumps(document))


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
