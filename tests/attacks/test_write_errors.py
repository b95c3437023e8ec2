"""A full, failing or forbidden disk at every write: the old checkpoint stays, and the end is one line that says what to do."""

from __future__ import annotations

import errno
import io
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from overseer_training.cli import _guarded
from overseer_training.errors import TrainingError
from overseer_training.files import staged_folder, write_text
from overseer_training.training import checkpoints
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints
from overseer_training.training.checkpoints import Checkpoint, load_checkpoint, save_best, save_checkpoint

from .victim import Zygote, losses_of

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
CALLS = ("fsync", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "open")
OPTIONS = {"flags": {"max-steps": 12, "save-steps": 2}}


class Failing:
    """Lets operation `number` and all later ones fail with `error`: what changes files, opens one to write, or fills one."""

    def __init__(self, number: int, error: int, monkeypatch: pytest.MonkeyPatch, *, lasts: bool) -> None:
        self.count, self._number, self._error, self._lasts = 0, number, error, lasts
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))
        opened, saved = io.open, checkpoints.save_file

        def open_file(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                self._step()
            return opened(path, mode, *arguments, **options)

        def save_file(tensors: Any, path: pathlib.Path) -> None:
            saved(tensors, path)
            os.truncate(path, path.stat().st_size // 2)  # a disk fills up in the middle of a file
            self._step()
            saved(tensors, path)

        monkeypatch.setattr(io, "open", open_file)
        monkeypatch.setattr(checkpoints, "save_file", save_file)

    def _wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any, **options: Any) -> Any:
            self._step()
            return call(*arguments, **options)

        return failing

    def _step(self) -> None:
        self.count += 1
        if self.count == self._number or (self._lasts and self.count > self._number):
            raise OSError(self._error, os.strerror(self._error))


def make_checkpoint(step: int) -> Checkpoint:
    weights = {"a": torch.full((64, 8), float(step))}
    return Checkpoint(weights, {"mean.a": weights["a"] * 2}, {"step": step, "best_sha256": "there is one"})


def assert_whole(folder: pathlib.Path, *steps: int) -> None:
    found = load_checkpoint(find_checkpoint(folder))
    step = found.state["step"]
    assert step in steps
    assert torch.equal(found.weights["a"], torch.full((64, 8), float(step)))


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("lasts", [False, True], ids=["once", "from then on"])
def test_a_save_that_fails_at_any_operation_costs_no_checkpoint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: int, lasts: bool
) -> None:
    failed = number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        for step in (1, 2, 3):
            save_best(folder, make_checkpoint(step).weights)
            save_checkpoint(folder, make_checkpoint(step))
        with monkeypatch.context() as patched:
            failing = Failing(number, error, patched, lasts=lasts)
            try:
                save_checkpoint(folder, make_checkpoint(4))
            except TrainingError as told:
                failed += 1
                assert "\n" not in str(told) and "Earlier checkpoints are untouched" in str(told)
        assert_whole(folder, 3, 4)
        if failing.count < number:
            break
        save_checkpoint(folder, make_checkpoint(5))  # and when the disk is well again it goes on
        assert_whole(folder, 5)
        assert list_checkpoints(folder)[0].name == "step-000005"
        assert not list(folder.glob(".staging-*")) + list(folder.glob(".old-*"))
    assert failed > 10


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_best_weights_small_files_and_folders_stay_as_they_were(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def write_folder() -> None:
        with staged_folder(tmp_path / "model") as staging:
            (staging / "a").write_text("new")

    def write_best() -> None:
        save_best(tmp_path, make_checkpoint(2).weights)

    works: list[tuple[Callable[[], None], pathlib.Path]] = [
        (lambda: write_text(tmp_path / "plan.json", "new"), tmp_path / "plan.json"),
        (write_folder, tmp_path / "model" / "a"),
        (write_best, tmp_path / "best.safetensors"),
    ]
    for work, path in works:
        work()
        after = path.read_bytes()
        number = failed = 0
        while True:
            number += 1
            before = b"old" if path.name != "best.safetensors" else path.read_bytes()
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(before)
            with monkeypatch.context() as patched:
                failing = Failing(number, error, patched, lasts=True)
                try:
                    work()
                except (OSError, TrainingError):
                    failed += 1
            aside = tmp_path / ".old-model" / "a"  # where neither the new nor the old folder could be renamed
            assert (path if path.exists() else aside).read_bytes() in (before, after)
            if failing.count < number:
                break
        assert failed > 3


def test_a_full_disk_ends_a_run_with_one_line_and_its_last_checkpoint(
    zygote: Zygote, undisturbed: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    """A real file system, too small for one more checkpoint."""
    reference = undisturbed(**OPTIONS)
    size = sum(path.stat().st_size for path in (reference.folder / "checkpoints" / "step-000002").iterdir())
    for share in (1.6, 2.2, 2.9):
        folder = tmp_path / str(share)
        victim = zygote.start(folder, disk_bytes=int(size * share), **OPTIONS)
        code = victim.wait()
        if code == 77:
            pytest.skip("this machine allows no file systems of one's own")
        assert code == 6, victim.output
        assert victim.output.count("\n") == 1 and "No space left on device" in victim.output
        assert "--resume-from-checkpoint" in victim.output or "free disk space and resume" in victim.output
        assert reference.has(find_checkpoint(folder / "rescued"))


def test_a_file_that_may_not_grow_ends_a_run_in_the_same_way(
    zygote: Zygote, undisturbed: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    """Real writes that stop in the middle of a file."""
    reference = undisturbed(**OPTIONS)
    victim = zygote.start(tmp_path / "run", small_files_from_save=3, **OPTIONS)
    assert victim.wait() == 6
    assert victim.output.count("\n") == 1 and "File too large" in victim.output
    found = find_checkpoint(tmp_path / "run" / "checkpoints")
    assert found.name == "step-000004" and reference.has(found)
    assert zygote.start(tmp_path / "run", **OPTIONS).wait() == 0
    assert losses_of(tmp_path / "run") == reference.losses


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_a_command_that_cannot_write_says_so_in_one_line(capsys: pytest.CaptureFixture[str], error: int) -> None:
    def fail() -> int:
        raise OSError(error, os.strerror(error), "/somewhere/plan.json")

    assert _guarded(fail) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"error: /somewhere/plan.json: {os.strerror(error)}")
