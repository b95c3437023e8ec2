from __future__ import annotations

import errno
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from overseer_training.errors import CheckpointError, TrainingError
from overseer_training.training import checkpoints
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints, verify_checkpoint
from overseer_training.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


def make_checkpoint(step: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    weights = {"a": torch.randn(50, 40, generator=generator), "b": torch.randn(7, generator=generator)}
    moments = {f"mean.{name}": value * 2 for name, value in weights.items()}
    return Checkpoint(weights, moments, {"step": step, "note": "x"})


def assert_is(path: pathlib.Path, step: int) -> None:
    found, expected = load_checkpoint(path), make_checkpoint(step)
    assert found.state["step"] == step
    for left, right in ((found.weights, expected.weights), (found.moments, expected.moments)):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_what_was_saved_is_loaded(tmp_path: pathlib.Path) -> None:
    path = save_checkpoint(tmp_path, make_checkpoint(5))
    assert verify_checkpoint(path) == ""
    assert_is(find_checkpoint(tmp_path), 5)


@pytest.mark.parametrize("name", ["weights.safetensors", "moments.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "empty"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: pathlib.Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    newest = save_checkpoint(tmp_path, make_checkpoint(2))
    content = bytearray((newest / name).read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0x10
    elif damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = bytearray()
    if damage == "delete":
        (newest / name).unlink()
    else:
        (newest / name).write_bytes(content)
    said: list[str] = []
    assert_is(find_checkpoint(tmp_path, said.append), 1)
    assert "step-000002" in said[0]
    assert_is(find_checkpoint(newest, said.append), 1)


def test_swapped_files_are_noticed(tmp_path: pathlib.Path) -> None:
    path = save_checkpoint(tmp_path, make_checkpoint(1))
    weights, moments = path / "weights.safetensors", path / "moments.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(moments.read_bytes())
    moments.write_bytes(content)
    with pytest.raises(CheckpointError):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["save_file", "sync_path", "write_json"])
def test_a_failing_write_leaves_the_old_checkpoint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: int, call: str
) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(error, "made to fail")

    monkeypatch.setattr(checkpoints, call, fail)
    with pytest.raises(TrainingError, match="Earlier checkpoints are untouched"):
        save_checkpoint(tmp_path, make_checkpoint(2))
    monkeypatch.undo()
    found = find_checkpoint(tmp_path)
    assert load_checkpoint(found).state["step"] in (1, 2)  # the last fsync fails after the rename: then 2 is whole
    assert_is(found, load_checkpoint(found).state["step"])
    assert not list(tmp_path.glob(".staging-*"))


SAVER = """
import pathlib, sys
sys.path.insert(0, {root!r})
import torch
from overseer_training.training.checkpoints import Checkpoint, save_checkpoint
folder, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for step in range(first, first + 10_000):
    generator = torch.Generator().manual_seed(step)
    weights = {{"a": torch.randn(50, 40, generator=generator), "b": torch.randn(7, generator=generator)}}
    save_checkpoint(folder, Checkpoint(weights, {{f"mean.{{n}}": v * 2 for n, v in weights.items()}}, {{"step": step, "note": "x"}}))
"""


def test_kill_9_while_saving_never_costs_a_published_checkpoint(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "saver.py"
    script.write_text(SAVER.format(root=str(pathlib.Path(__file__).parents[2])))
    folder = tmp_path / "checkpoints"
    rng = random.Random(0)
    newest = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(newest + 1)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if list_checkpoints(folder):
            found = find_checkpoint(folder)
            step = load_checkpoint(found).state["step"]
            assert step >= newest
            assert_is(found, step)
            newest = step
    assert newest > 6
