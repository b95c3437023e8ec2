"""Several processes against one: the same examples in every step, the same losses, and an end for all when one is lost."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.config.launch import Launch, find_launch
from overseer_training.errors import UsageError
from overseer_training.training.batches import Schedule, share_of
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints
from overseer_training.training.checkpoints import load_checkpoint
from overseer_training.training.distributed import World
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals

from .conftest import build_model, build_plan, make_tokens

WORKER = pathlib.Path(__file__).with_name("train_together.py")
ROOT = pathlib.Path(__file__).parents[2]
STEPS, ROWS = 8, 40
TOLERANCE = 1e-3  # relative, of a step's loss: sums in another order

Train = Callable[..., tuple[Trainer, list[Any]]]


@dataclasses.dataclass(frozen=True)
class Together:
    """What two processes left.

    Attributes:
        alone: events of the same training in one process.
    """

    folder: pathlib.Path
    alone: list[Any]
    exit_codes: tuple[int, int]
    errors: str

    def first(self, scenario: str) -> Any:
        return json.loads((self.folder / scenario / "first.json").read_text())

    def rows(self, scenario: str, rank: int) -> dict[int, list[int]]:
        """Rows that process `rank` learned from, by step."""
        found: dict[int, list[int]] = collections.defaultdict(list)
        for step, rows in json.loads((self.folder / scenario / f"rows-{rank}.json").read_text()):
            found[step] += rows
        return found


def losses_of(events: list[Any]) -> list[float]:
    return [event["loss"] for event in events if event["kind"] == "train"]


@pytest.fixture(scope="module")
def train_alone() -> Train:
    """Trains the same as train_together.py in this process, and leaves its folder of checkpoints."""

    def train(folder: pathlib.Path, *, stop_at: int = 0, checkpoint: pathlib.Path | None = None) -> Any:
        plan = build_plan("--max-steps", str(STEPS), "--eval-steps", "3")
        torch.manual_seed(plan.seed)
        events: list[Any] = []
        stop = StopSignals()

        def listen(event: Any) -> None:
            events.append(event)
            if event["kind"] == "train" and event["step"] == stop_at:
                stop.received = signal.SIGTERM

        trainer = Trainer(
            build_model("fp32"), make_tokens(ROWS), make_tokens(8, seed=1), plan, folder=folder, listener=listen
        )
        if checkpoint is not None:
            trainer.restore(load_checkpoint(checkpoint))
        trainer.run(Schedule(ROWS, plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed), stop)
        return trainer, events

    return train


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, train_alone: Train) -> Together:
    """All scenarios of train_together.py, in two processes that are started once."""
    root = tmp_path_factory.mktemp("together")
    alone = train_alone(root / "alone")[1]
    train_alone(root / "resumed", stop_at=4)  # one process begins, two go on
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in place.items()}, "MASTER_ADDR": "127.0.0.1"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        processes.append(
            subprocess.Popen(
                [sys.executable, str(WORKER), str(root)], env=environment, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        errors = processes[1].communicate(timeout=400)[1]
        errors += processes[0].communicate(timeout=120)[
            1
        ]  # the second one is dead; a connection itself would wait for 30 minutes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    codes = (processes[0].returncode, processes[1].returncode)
    return Together(root, alone, codes, errors)


def test_two_processes_learn_what_one_learns(together: Together) -> None:
    assert together.exit_codes == (0, -signal.SIGKILL), together.errors
    found = together.first("whole")
    assert found["reason"] == "finished"
    assert found["losses"] == pytest.approx(losses_of(together.alone), rel=TOLERANCE)
    alone = [event for event in together.alone if event["kind"] == "validation"]
    assert [loss for loss, _ in found["validation"]] == pytest.approx([e["loss"] for e in alone], rel=TOLERANCE)
    assert [count for _, count in found["validation"]] == [event["n_tokens"] for event in alone]


def test_every_step_has_the_same_examples_each_in_one_process(together: Together) -> None:
    plan = build_plan()
    schedule = Schedule(ROWS, plan.effective_batch_size, plan.epochs, STEPS, plan.seed)
    shares = [together.rows("whole", rank) for rank in range(2)]
    for step in range(STEPS):
        assert sorted(shares[0][step] + shares[1][step]) == sorted(schedule.rows_of_step(step))
        assert len(shares[0][step]) == len(shares[1][step])


def test_a_signal_to_one_process_stops_all_after_the_same_step(together: Together) -> None:
    found = together.first("stopped")
    assert (found["reason"], found["exit_code"]) == ("interrupted", 143)
    assert len(found["losses"]) == 4
    assert list_checkpoints(together.folder / "stopped")[0].name == "step-000004"


def test_one_process_goes_on_where_two_stopped(together: Together, train_alone: Train) -> None:
    folder = together.folder / "stopped"
    events = train_alone(folder, checkpoint=find_checkpoint(folder))[1]
    assert losses_of(events) == pytest.approx(losses_of(together.alone)[4:], rel=TOLERANCE)


def test_two_processes_go_on_where_one_stopped(together: Together) -> None:
    assert together.first("resumed")["losses"] == pytest.approx(losses_of(together.alone)[4:], rel=TOLERANCE)
    assert together.rows("resumed", 1).keys() == {4, 5, 6, 7}


def test_adapters_learn_together(together: Together) -> None:
    found = together.first("adapters")
    assert found["reason"] == "finished"
    assert found["losses"][-1] < found["losses"][0]


def test_a_killed_process_ends_the_others_with_a_checkpoint(together: Together) -> None:
    found = together.first("killed")
    assert found["exit_code"] == 6
    assert "--resume-from-checkpoint latest" in found["reason"] and "\n" not in found["reason"]
    assert find_checkpoint(together.folder / "killed").name == "step-000003"


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), size=st.integers(1, 9))
def test_shares_are_a_partition_into_like_numbers_of_tokens(lengths: list[int], size: int) -> None:
    rows = list(range(len(lengths)))
    shares = [share_of(rows, lengths, rank, size) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == rows
    tokens = [sum(lengths[row] for row in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths)


def test_one_process_is_a_world_that_changes_nothing() -> None:
    world, numbers = World(), torch.tensor([1.0, 2.0])
    world.sum_tensors([numbers])
    world.copy_from_first([numbers])
    assert (world.share(3), world.gather(3), numbers.tolist()) == (3, [3], [1.0, 2.0])


def test_a_process_knows_its_place_from_torchruns_variables() -> None:
    place = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    launch = find_launch(place)
    assert launch == Launch(3, 4, 1, 2) and launch.hosts == 2
    assert find_launch({"WORLD_SIZE": "4"}) == Launch()
    assert find_launch({**place, "TORCHELASTIC_RUN_ID": "none"}).identity
    for wrong in ({"RANK": "0", "WORLD_SIZE": "4"}, {**place, "RANK": "first"}):
        with pytest.raises(UsageError, match="torchrun"):
            find_launch(wrong)
