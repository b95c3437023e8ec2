"""How runs end and what a resumed one makes of it: nothing is trained, validated or chosen otherwise than without the interruption."""

from __future__ import annotations

import json
import math
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from overseer_training.config.plan import Plan
from overseer_training.errors import CheckpointError, TrainingError
from overseer_training.training.batches import ORDER, Schedule
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints
from overseer_training.training.checkpoints import BEST, load_checkpoint
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals

MakePlan = Callable[..., Plan]
MakeTrainer = Callable[..., Trainer]


def schedule_of(plan: Plan) -> Schedule:
    return Schedule(40, plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)


def resume(make_trainer: MakeTrainer, plan: Plan, folder: pathlib.Path, events: list[Any] | None = None) -> Trainer:
    trainer = make_trainer(plan, folder=folder, events=events)
    trainer.restore(load_checkpoint(find_checkpoint(folder)))
    return trainer


def test_a_signal_during_the_last_validation_is_heeded(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    """What follows training takes minutes; a service that is told to stop has seconds."""
    plan, stop = make_plan("--max-steps", "3"), StopSignals()
    trainer = make_trainer(plan, folder=tmp_path)
    validate = trainer.validate

    def interrupted() -> tuple[float, float, int]:
        stop.received = signal.SIGTERM
        return validate()

    trainer.validate = interrupted  # type: ignore[method-assign]
    outcome = trainer.run(schedule_of(plan), stop)
    assert (outcome.reason, outcome.exit_code) == ("interrupted", 143)
    again = resume(make_trainer, plan, tmp_path)
    assert again.run(schedule_of(plan), StopSignals()).reason == "finished"
    assert again.progress.step == 3


@pytest.mark.parametrize("reason", ["early_stop", "time_budget"])
def test_a_run_that_ended_early_has_ended_when_it_is_resumed(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """As after a crash in the evaluation that follows."""
    plan = make_plan("--epochs", "50", "--eval-steps", "1", "--early-stopping-patience", "2", "--time-budget", "1h")
    trainer = make_trainer(plan, folder=tmp_path)
    losses = iter([3.0, 2.0, 2.5, 2.6])
    if reason == "early_stop":
        monkeypatch.setattr(trainer, "validate", lambda: (next(losses), 0.5, 10))
    else:
        monkeypatch.setattr(trainer, "_elapsed", lambda: 1.0 if trainer.progress.step < 4 else 9e9)
    assert trainer.run(schedule_of(plan), StopSignals()).reason == reason
    again = resume(make_trainer, plan, tmp_path)
    assert again.run(schedule_of(plan), StopSignals()).reason == reason
    assert again.progress.step == trainer.progress.step


def test_the_best_weights_are_those_of_the_checkpoint_that_is_resumed(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--max-steps", "6", "--eval-steps", "2", "--save-steps", "2")
    trainer = make_trainer(plan, folder=tmp_path)
    trainer.run(schedule_of(plan), StopSignals())
    checkpoint = list_checkpoints(tmp_path)[1]
    expected = (checkpoint / BEST).read_bytes()
    (tmp_path / BEST).write_bytes(b"of a later validation")
    again = make_trainer(plan, folder=tmp_path)
    again.restore(load_checkpoint(checkpoint))
    stop = StopSignals()
    stop.received = signal.SIGTERM
    again.run(schedule_of(plan), stop, checkpoint)
    assert (tmp_path / BEST).read_bytes() == expected
    again.use_best_weights()
    for name, value in load_file(tmp_path / BEST).items():
        assert torch.equal(value, dict(again.model.named_parameters())[name])


def test_a_damaged_best_file_never_gets_into_the_model(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_plan("--max-steps", "4", "--eval-steps", "2")
    trainer = make_trainer(plan, folder=tmp_path)
    trainer.run(schedule_of(plan), StopSignals())
    last = [parameter.clone() for parameter in trainer.optimizer.parameters]
    content = bytearray((tmp_path / BEST).read_bytes())
    content[-3] ^= 1
    (tmp_path / BEST).write_bytes(content)
    trainer.use_best_weights()
    assert "damaged or missing: the last ones are used" in caplog.text
    assert all(torch.equal(left, right) for left, right in zip(trainer.optimizer.parameters, last, strict=True))


def test_a_step_whose_loss_is_not_finite_is_not_applied_though_its_gradient_is(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan, events = make_plan("--max-steps", "8", "--save-steps", "1"), list[Any]()
    trainer = make_trainer(plan, folder=tmp_path, events=events)
    accumulate, before = trainer._accumulate, list[torch.Tensor]()

    def overflow(rows: list[int], answer_tokens: int) -> float:
        loss = accumulate(rows, answer_tokens)
        return math.inf if trainer.progress.step in (2, 3, 5) else loss

    trainer._accumulate = overflow  # type: ignore[method-assign]
    listener = trainer.listener

    def compare(event: Any) -> None:
        listener(event)
        if event["kind"] == "train":
            now = [master.clone() for master in trainer.optimizer.masters]
            is_same = bool(before) and all(torch.equal(left, right) for left, right in zip(before, now, strict=True))
            assert is_same == (event["step"] in (3, 4, 6))
            before[:] = now

    trainer.listener = compare
    assert trainer.run(schedule_of(plan), StopSignals()).reason == "finished"
    assert (trainer.progress.skipped, trainer.progress.skipped_in_a_row) == (3, 0)
    assert events[-1]["skipped_steps"] == 3
    assert json.loads((find_checkpoint(tmp_path) / "state.json").read_text())["skipped"] == 3


def test_steps_that_stay_not_finite_end_the_run_with_a_checkpoint(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--max-steps", "20")
    trainer = make_trainer(plan, folder=tmp_path)
    accumulate = trainer._accumulate
    trainer._accumulate = lambda *arguments: math.nan * accumulate(*arguments)  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="a checkpoint is saved"):
        trainer.run(schedule_of(plan), StopSignals())
    assert find_checkpoint(tmp_path).name == "step-000005"


def test_metrics_that_cannot_be_written_cost_no_step(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--max-steps", "9")
    trainer = make_trainer(plan, folder=tmp_path)

    def fail(event: Any) -> None:
        if event["step"] >= 4:
            raise TrainingError("cannot write metrics to metrics.jsonl: Input/output error")

    trainer.listener = fail
    with pytest.raises(TrainingError, match="cannot write metrics"):
        trainer.run(schedule_of(plan), StopSignals())
    assert find_checkpoint(tmp_path).name == "step-000004"
    assert resume(make_trainer, plan, tmp_path).run(schedule_of(plan), StopSignals()).reason == "finished"


def test_a_checkpoint_of_another_version_is_refused(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--max-steps", "2")
    trainer = make_trainer(plan, folder=tmp_path)
    trainer.run(schedule_of(plan), StopSignals())
    checkpoint = load_checkpoint(find_checkpoint(tmp_path))
    whole = checkpoint.state
    for change in ({"unknown": 1}, {"rows": None}, {"order": None}, {"order": ORDER - 1}):
        checkpoint.state = {name: value for name, value in {**whole, **change}.items() if value is not None}
        with pytest.raises(CheckpointError, match="of another version of this program"):
            trainer.restore(checkpoint)
    checkpoint.state = whole
    trainer.restore(checkpoint)


def test_going_back_leaves_later_checkpoints_behind_and_clears_what_a_kill_left(
    make_plan: MakePlan, make_trainer: MakeTrainer, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--max-steps", "8", "--save-steps", "2")
    make_trainer(plan, folder=tmp_path).run(schedule_of(plan), StopSignals())
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000008", "step-000006"]
    for name in (".staging-step-000007", ".old-step-000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_text("half")
    (tmp_path / f".{BEST}.x1").write_text("half")
    (tmp_path / "step-000008" / "state.json").write_text("damaged")
    trainer = resume(make_trainer, plan, tmp_path)
    stop = StopSignals()
    listener = trainer.listener

    def stop_at_7(event: Any) -> None:
        listener(event)
        if event["kind"] == "train":
            stop.received = signal.SIGTERM

    trainer.listener = stop_at_7
    trainer.run(schedule_of(plan), stop)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [BEST, "step-000006", "step-000007"]


def test_signals_that_were_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
