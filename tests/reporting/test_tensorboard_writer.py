"""TensorBoard's own loader reads what the writer wrote, and no framework is imported for it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from overseer_training.reporting.tensorboard import TensorBoardWriter


def scalars(directory: pathlib.Path, tag: str) -> dict[int, float]:
    accumulator = EventAccumulator(str(directory))
    accumulator.Reload()
    return {event.step: event.value for event in accumulator.Scalars(tag)}


def write(directory: pathlib.Path, events: list[dict[str, Any]]) -> None:
    with TensorBoardWriter(directory) as board:
        for event in events:
            board(event)


def test_tensorboard_reads_every_scalar(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    write(tmp_path, events)
    losses = scalars(tmp_path, "train/loss")
    assert list(losses) == list(range(1, 61))
    assert losses[7] == pytest.approx(events[7]["loss"])
    assert scalars(tmp_path, "validation/token_accuracy")[40] == pytest.approx(0.742)
    assert scalars(tmp_path, "speed/tokens_per_second")[1] == pytest.approx(292.0)
    assert scalars(tmp_path, "memory/ram_fraction")[60] == pytest.approx(0.52)
    assert scalars(tmp_path, "train/learning_rate")[1] == pytest.approx(5e-5)


def test_device_memory_is_absent_where_there_is_no_device(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    write(tmp_path, events)
    with pytest.raises(KeyError):
        scalars(tmp_path, "memory/device_memory_bytes")


def test_resumed_steps_replace_the_ones_that_were_lost(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    write(tmp_path, events)
    resumed = {**events[0], "resumed_from": "checkpoints/step-000040"}
    write(tmp_path, [resumed, {**events[1], "step": 41, "loss": 9.0}])
    losses = scalars(tmp_path, "train/loss")
    assert list(losses) == list(range(1, 42))
    assert losses[41] == pytest.approx(9.0)


def test_importing_the_room_loads_no_framework() -> None:
    modules = [
        "events",
        "terminal",
        "progress",
        "tensorboard",
        "collect",
        "comparison",
        "charts",
        "curves",
        "html_report",
    ]
    imports = ", ".join(f"overseer_training.reporting.{module}" for module in modules)
    code = f"import sys, {imports}; print(set(sys.modules) & set(('torch', 'tensorflow', 'tensorboard')))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_writing_loads_no_framework(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys, pathlib; from overseer_training.reporting.tensorboard import TensorBoardWriter;"
        f"TensorBoardWriter(pathlib.Path({str(tmp_path)!r})).close();"
        "print({'torch', 'tensorflow'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="has no disk that is always full")
def test_a_full_disk_is_no_reason_to_stop(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    with TensorBoardWriter(tmp_path) as board:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, board._file.fileno())
        os.close(full)
        for event in events:
            board(event)
