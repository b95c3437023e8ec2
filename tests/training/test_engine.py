from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from overseer_training.config.plan import Plan
from overseer_training.errors import TrainingError
from overseer_training.training import engine, memory_guard
from overseer_training.training.batches import Schedule
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints
from overseer_training.training.checkpoints import load_checkpoint
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals

MakePlan = Callable[..., Plan]
MakeTrainer = Callable[..., Trainer]


def schedule_of(plan: Plan, rows: int = 40) -> Schedule:
    return Schedule(rows, plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        name: master.clone() for name, master in zip(trainer.optimizer.names, trainer.optimizer.masters, strict=True)
    }


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_model_learns(make_plan: MakePlan, make_trainer: MakeTrainer, precision: str) -> None:
    plan = make_plan("--epochs", "12", "--precision", precision)
    events: list[Any] = []
    outcome = make_trainer(plan, events=events).run(schedule_of(plan), StopSignals())
    losses = [event["loss"] for event in events if event["kind"] == "train"]
    assert outcome.reason == "finished"
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_plan_gives_the_same_bytes(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, precision: str
) -> None:
    plan = make_plan("--max-steps", "6", "--precision", precision)
    results = []
    for name in ("a", "b"):
        trainer = make_trainer(plan, folder=tmp_path / name)
        trainer.run(schedule_of(plan), StopSignals())
        results.append(weights_of(trainer))
    assert_same(*results)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_resuming_equals_the_uninterrupted_run(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, precision: str, stop_at: int
) -> None:
    plan = make_plan("--max-steps", "9", "--eval-steps", "3", "--precision", precision)
    whole_events: list[Any] = []
    whole = make_trainer(plan, folder=tmp_path / "whole", events=whole_events)
    whole.run(schedule_of(plan), StopSignals())

    events: list[Any] = []
    first = make_trainer(plan, folder=tmp_path / "cut", events=events)
    stop = StopSignals()
    listener = first.listener

    def stop_after(event: Any) -> None:
        listener(event)
        if event["kind"] == "train" and event["step"] == stop_at:
            stop.received = signal.SIGTERM

    first.listener = stop_after
    outcome = first.run(schedule_of(plan), stop)
    assert (outcome.reason, outcome.exit_code) == ("interrupted", 143)
    second = make_trainer(plan, folder=tmp_path / "cut", events=events)
    second.restore(load_checkpoint(find_checkpoint(tmp_path / "cut")))
    second.run(schedule_of(plan), StopSignals())
    assert_same(weights_of(second), weights_of(whole))
    losses = [[event["loss"] for event in found if event["kind"] == "train"] for found in (events, whole_events)]
    assert losses[0] == losses[1]
    assert second.progress.best_loss == whole.progress.best_loss


def test_micro_batches_do_not_change_what_is_learned(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    results = []
    for budget in (16, 64, 4096):
        plan = make_plan("--max-steps", "5")
        trainer = make_trainer(plan, folder=tmp_path / str(budget))
        trainer.token_budget = budget
        trainer.run(schedule_of(plan), StopSignals())
        results.append(weights_of(trainer))
    for other in results[1:]:
        for name, value in results[0].items():
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)


def test_running_out_of_memory_keeps_every_example(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("--max-steps", "4")
    calm = make_trainer(plan, folder=tmp_path / "calm")
    calm.run(schedule_of(plan), StopSignals())

    events: list[Any] = []
    shaken = make_trainer(plan, folder=tmp_path / "shaken", events=events)
    accumulate, seen = shaken._accumulate, list[int]()

    def fail_when_large(rows: list[int], answer_tokens: int) -> float:
        if len(rows) > 2:  # gradients of a failed micro-batch must not count
            shaken.optimizer.parameters[0].grad = torch.ones_like(shaken.optimizer.parameters[0])
            raise RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)")
        seen.extend(rows)
        return accumulate(rows, answer_tokens)

    monkeypatch.setattr(shaken, "_accumulate", fail_when_large)
    outcome = shaken.run(schedule_of(plan), StopSignals())
    assert outcome.reason == "finished"
    schedule = schedule_of(plan)
    assert sorted(seen) == sorted(row for step in range(4) for row in schedule.rows_of_step(step))
    assert any(event.get("event") == "memory_backoff" for event in events)
    for name, value in weights_of(calm).items():
        torch.testing.assert_close(value, weights_of(shaken)[name], rtol=1e-4, atol=1e-5)


def test_a_memory_limit_saves_and_stops_with_its_code(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("--max-steps", "6")
    trainer = make_trainer(plan, folder=tmp_path / "c")
    listener = trainer.listener

    def fill_memory_after_step_2(event: Any) -> None:
        listener(event)
        if event["kind"] == "train" and event["step"] == 2:
            monkeypatch.setattr(memory_guard, "memory_used_bytes", lambda: trainer.guard._total * 2)

    trainer.listener = fill_memory_after_step_2
    outcome = trainer.run(schedule_of(plan), StopSignals())
    assert (outcome.reason, outcome.exit_code) == ("memory_limit", 5)
    assert "--ram-limit" in outcome.message
    monkeypatch.undo()
    again = make_trainer(plan, folder=tmp_path / "c")
    again.restore(load_checkpoint(find_checkpoint(tmp_path / "c")))
    assert again.progress.step == 2
    assert again.run(schedule_of(plan), StopSignals()).reason == "finished"


def test_steps_that_are_not_finite_are_skipped_and_then_end_the_run(
    make_plan: MakePlan, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("--max-steps", "20")
    events: list[Any] = []
    trainer = make_trainer(plan, events=events)
    before = weights_of(trainer)
    add = trainer.optimizer.add_gradients

    def poison() -> None:
        parameter = trainer.optimizer.parameters[0]
        assert parameter.grad is not None
        parameter.grad[0] = float("nan")
        add()

    monkeypatch.setattr(trainer.optimizer, "add_gradients", poison)
    with pytest.raises(TrainingError, match="not finite"):
        trainer.run(schedule_of(plan), StopSignals())
    assert_same(weights_of(trainer), before)
    assert sum(event.get("event") == "skipped_step" for event in events) == engine.MOST_SKIPPED_STEPS


def test_training_stops_early_and_keeps_the_best_weights(
    make_plan: MakePlan, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("--epochs", "50", "--eval-steps", "1", "--early-stopping-patience", "2")
    trainer = make_trainer(plan)
    losses = iter([3.0, 2.0, 2.5, 2.6, 9.0])
    kept: list[dict[str, torch.Tensor]] = []

    def validate() -> tuple[float, float, int]:
        kept.append(
            {
                name: value.clone()
                for name, value in zip(trainer.optimizer.names, trainer.optimizer.parameters, strict=True)
            }
        )
        return next(losses), 0.5, 10

    monkeypatch.setattr(trainer, "validate", validate)
    outcome = trainer.run(schedule_of(plan), StopSignals())
    assert outcome.reason == "early_stop"
    assert trainer.progress.best_step == 2
    trainer.use_best_weights()
    assert_same(dict(zip(trainer.optimizer.names, trainer.optimizer.parameters, strict=True)), kept[1])


def test_a_slower_machine_does_fewer_steps_and_the_rate_still_reaches_zero(
    make_plan: MakePlan, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(make_plan("--max-steps", "60", "--epochs", "20"), time_budget_seconds=60)
    events: list[Any] = []
    trainer = make_trainer(plan, events=events)
    monkeypatch.setattr(trainer, "_elapsed", lambda: 2.0 * trainer.progress.step)
    outcome = trainer.run(schedule_of(plan), StopSignals())
    steps = [event for event in events if event["kind"] == "train"]
    assert outcome.reason == "finished" and len(steps) == 30
    assert steps[0]["total_steps"] == 60 and steps[-1]["total_steps"] == 30
    assert steps[-1]["learning_rate"] < 0.05 * plan.effective_learning_rate


def test_a_machine_that_nearly_stands_still_ends_soon_after_its_time_budget(
    make_plan: MakePlan, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(make_plan("--epochs", "500"), time_budget_seconds=60)
    trainer = make_trainer(plan)
    monkeypatch.setattr(trainer, "_elapsed", lambda: 1.0 if trainer.progress.step < 4 else 100.0)
    outcome = trainer.run(schedule_of(plan), StopSignals())
    assert outcome.reason == "time_budget" and outcome.progress.step == 4


def test_measuring_speed_changes_nothing(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--max-steps", "3")
    plain, measured = make_trainer(plan, folder=tmp_path / "a"), make_trainer(plan, folder=tmp_path / "b")
    assert measured.measure_step_seconds(schedule_of(plan)) > 0
    for trainer in (plain, measured):
        trainer.run(schedule_of(plan), StopSignals())
    assert_same(weights_of(plain), weights_of(measured))


def test_only_new_checkpoints_are_kept(make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path) -> None:
    plan = make_plan("--max-steps", "8", "--save-steps", "2")
    make_trainer(plan, folder=tmp_path / "c").run(schedule_of(plan), StopSignals())
    assert [path.name for path in list_checkpoints(tmp_path / "c")] == ["step-000008", "step-000006"]


def test_a_signal_is_noted_and_a_second_ctrl_c_ends_at_once() -> None:
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_asked
        assert stop.exit_code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
