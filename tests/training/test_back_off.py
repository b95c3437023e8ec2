"""What is done when memory runs short, in which order, and that no row is lost or repeated."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from overseer_training.config.plan import Plan
from overseer_training.errors import MemoryLimitError
from overseer_training.training import back_off, memory_guard
from overseer_training.training.batches import Schedule
from overseer_training.training.checkpoint_paths import find_checkpoint
from overseer_training.training.checkpoints import load_checkpoint
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals

MakePlan = Callable[..., Plan]
MakeTrainer = Callable[..., Trainer]
ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 1.2 GB, max allowed: 9.07 GB)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
)


def schedule_of(plan: Plan) -> Schedule:
    return Schedule(40, plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)


def run_short_of_memory(trainer: Trainer, fits: Callable[[int], bool], error: Exception) -> list[int]:
    """Let micro-batches whose rows do not fit fail, half of them in the backward pass; the rows that were learned, in their order."""
    learned: list[int] = []
    accumulate, add = trainer._accumulate, trainer.optimizer.add_gradients

    def accumulate_or_fail(rows: list[int], answer_tokens: int) -> float:
        if fits(len(rows)):
            learned.extend(rows)
            return accumulate(rows, answer_tokens)
        if len(rows) % 2:
            raise error
        trainer.optimizer.add_gradients = _raise(error)  # type: ignore[method-assign]
        try:
            return accumulate(rows, answer_tokens)
        finally:
            trainer.optimizer.add_gradients = add  # type: ignore[method-assign]

    trainer._accumulate = accumulate_or_fail  # type: ignore[method-assign]
    return learned


def _raise(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.optimizer.state()[0].items()}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__} {str(error)[:30]}")
def test_every_kind_of_out_of_memory_ends_in_smaller_pieces_of_the_same_step(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, error: Exception
) -> None:
    plan = make_plan("--max-steps", "3")
    calm, shaken = make_trainer(plan, folder=tmp_path / "calm"), make_trainer(plan, folder=tmp_path / "shaken")
    learned = run_short_of_memory(shaken, lambda rows: rows <= 3, error)
    assert calm.run(schedule_of(plan), StopSignals()).reason == "finished"
    assert shaken.run(schedule_of(plan), StopSignals()).reason == "finished"
    assert sorted(learned) == sorted(row for step in range(3) for row in schedule_of(plan).rows_of_step(step))
    for name, value in weights_of(calm).items():
        torch.testing.assert_close(value, weights_of(shaken)[name], rtol=1e-4, atol=1e-5)


def test_another_error_is_not_taken_for_out_of_memory(make_plan: MakePlan, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(make_plan("--max-steps", "3"))
    run_short_of_memory(trainer, lambda rows: False, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        trainer.run(schedule_of(trainer.plan), StopSignals())


def test_smaller_pieces_come_before_recomputing_and_that_before_the_end(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan, events = make_plan("--max-steps", "3"), list[Any]()
    trainer = make_trainer(plan, folder=tmp_path / "c", events=events)
    learned = run_short_of_memory(trainer, lambda rows: False, MemoryError())
    outcome = trainer.run(schedule_of(plan), StopSignals())
    assert (outcome.reason, outcome.exit_code) == ("memory_limit", 5)
    assert "--ram-limit" in outcome.message and "A checkpoint is saved" in outcome.message
    told = [event["message"] for event in events if event.get("event") == "memory_backoff"]
    assert ["activations" in message for message in told] == [False] * (len(told) - 1) + [True]
    sizes = [int(message.split("at most ")[1].split()[0]) for message in told[:-1]]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) >= 2
    assert learned == []
    again = make_trainer(plan, folder=tmp_path / "c")  # with enough memory: nothing was lost
    again.restore(load_checkpoint(find_checkpoint(tmp_path / "c")))
    assert again.back_off.recomputes and again.progress.step == 0
    assert again.run(schedule_of(plan), StopSignals()).reason == "finished"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputing_changes_no_bit(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, precision: str
) -> None:
    plan = make_plan("--max-steps", "3", "--precision", precision)
    plain, frugal = make_trainer(plan, folder=tmp_path / "a"), make_trainer(plan, folder=tmp_path / "b")
    forwards = [0, 0]
    for number, trainer in enumerate((plain, frugal)):
        trainer.model.train()
        layer = trainer.model.model.layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, number=number: forwards.__setitem__(number, forwards[number] + 1))
    assert frugal.back_off.recompute()
    for trainer in (plain, frugal):
        trainer.run(schedule_of(plan), StopSignals())
    assert forwards[1] > forwards[0]  # it was done
    for name, value in weights_of(plain).items():
        assert torch.equal(value, weights_of(frugal)[name]), name


def test_a_limit_that_is_passed_again_after_caches_were_freed_halves_the_pieces(
    make_plan: MakePlan, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that the C library keeps count as used; giving them back helps once, and every time means that pieces are too large."""
    plan, events, freed = make_plan("--max-steps", "6"), list[Any](), list[int]()
    trainer = make_trainer(plan, events=events)
    used = 0.0
    monkeypatch.setattr(memory_guard, "memory_used_bytes", lambda: int(used * trainer.guard._total))
    accumulate = trainer._accumulate

    def fill(rows: list[int], answer_tokens: int) -> float:
        nonlocal used
        used = 2.0 if len(rows) > 3 else 0.5
        return accumulate(rows, answer_tokens)

    def free(device: str) -> None:
        nonlocal used
        freed.append(trainer.progress.step)
        used = 0.5

    monkeypatch.setattr(trainer, "_accumulate", fill)
    monkeypatch.setattr(back_off, "free_caches", free)
    assert trainer.run(schedule_of(plan), StopSignals()).reason == "finished"
    told = [event for event in events if event.get("event") == "memory_backoff"]
    assert len(freed) > len(told) >= 1  # the first time freeing was enough
    assert trainer.back_off.token_budget < 64


def test_running_out_of_memory_while_validating_is_survived_and_made_up_for(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("--max-steps", "4", "--eval-steps", "2")
    whole = make_trainer(plan, folder=tmp_path / "whole")
    whole.run(schedule_of(plan), StopSignals())
    trainer = make_trainer(plan, folder=tmp_path / "cut")
    predict, most = trainer._predict, 4

    def fail_when_large(tokens: Any, rows: list[int]) -> Any:
        if tokens is trainer.validation_set and len(rows) > most:
            raise RuntimeError("MPS backend out of memory")
        return predict(tokens, rows)

    monkeypatch.setattr(trainer, "_predict", fail_when_large)
    assert trainer.validate()[2] == whole.validate()[2]  # every answer token is measured
    most = 0
    outcome = trainer.run(schedule_of(plan), StopSignals())
    assert (outcome.reason, outcome.progress.step, outcome.progress.validated_step) == ("memory_limit", 2, 0)
    again = make_trainer(plan, folder=tmp_path / "cut")
    again.restore(load_checkpoint(find_checkpoint(tmp_path / "cut")))
    events: list[Any] = []
    again.listener = events.append
    assert again.run(schedule_of(plan), StopSignals()).reason == "finished"
    assert [event["step"] for event in events if event["kind"] == "validation"] == [2, 4]
    assert again.progress.best_step == whole.progress.best_step


def test_the_probe_before_training_backs_off_too(make_plan: MakePlan, make_trainer: MakeTrainer) -> None:
    plan = make_plan("--max-steps", "3")
    trainer = make_trainer(plan)
    run_short_of_memory(trainer, lambda rows: rows <= 2, MemoryError())
    assert trainer.measure_step_seconds(schedule_of(plan)) > 0
    run_short_of_memory(trainer, lambda rows: False, MemoryError())
    with pytest.raises(MemoryLimitError, match="--base-model"):
        trainer.measure_step_seconds(schedule_of(plan))
