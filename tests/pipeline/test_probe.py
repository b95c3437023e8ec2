"""Steps are timed as large as the run will have them."""

from __future__ import annotations

import types
from typing import Any

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import Machine
from overseer_training.config.resolve import resolve
from overseer_training.pipeline import Session
from overseer_training.training.batches import Schedule
from overseer_training.training.distributed import World

MACHINE = Machine("Linux", "plain", 2, 2**34, frozenset(), has_mps=False, has_cuda=False)


@pytest.mark.parametrize(("budget", "timed", "steps"), [("10m", [16], 300), ("1h", [16, 64], 600)])
def test_a_long_budget_is_timed_again_with_its_large_steps(budget: str, timed: list[int], steps: int) -> None:
    flags = build_parser().parse_args(["--time-budget", budget, "--method", "full"])
    plan = resolve(flags, load_configuration(), MACHINE, for_run=True)
    asked: list[int] = []

    def measure(schedule: Any) -> float:
        asked.append(schedule.batch_size)
        return {16: 2.0, 64: 6.0}[schedule.batch_size]

    trainer = types.SimpleNamespace(measure_step_seconds=measure)
    schedule = Schedule(6400, plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
    fitted, _ = Session._fit_steps(types.SimpleNamespace(world=World()), trainer, plan, schedule)  # type: ignore[arg-type]
    assert asked == timed
    assert (fitted.effective_batch_size, fitted.max_steps) == (timed[-1], steps)
