"""Two runs, one folder: one proceeds, the others say so; a lock dies with its process. Clocks may jump."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable

import pytest

from overseer_training import run_folder
from overseer_training.errors import UsageError

from .victim import SOAK, Zygote, losses_of

OPTIONS = {"flags": {"max-steps": 40, "save-steps": 5}}


def test_of_runs_in_one_folder_exactly_one_proceeds_and_a_killed_one_leaves_no_lock(
    zygote: Zygote, undisturbed: Callable[..., object], tmp_path: pathlib.Path
) -> None:
    reference = undisturbed(**OPTIONS)
    for attempt in range(3 * SOAK):
        folder = tmp_path / str(attempt)
        first = zygote.start(folder, **OPTIONS)
        first.wait_for("T", 7)
        others = [zygote.start(folder, **OPTIONS) for _ in range(2)]
        assert [other.wait() for other in others] == [2, 2]
        assert "another process is training in" in others[-1].output
        first.kill(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        assert zygote.start(folder, **OPTIONS).wait() == 0
        assert losses_of(folder) == reference.losses


@pytest.mark.parametrize("name", ["mine", None])
def test_a_new_folder_is_one_runs_alone(tmp_path: pathlib.Path, name: str | None) -> None:
    barrier = threading.Barrier(6)

    def take(number: int) -> str:
        barrier.wait()
        try:
            return run_folder.new_run_folder(tmp_path / "runs", name).name
        except UsageError as error:
            return f"refused: {error}"

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(take, range(6)))
    got = [answer for answer in answers if not answer.startswith("refused")]
    assert len(got) == len(set(got)) == (1 if name else 6)
    assert all("choose another --run-name" in answer for answer in answers if answer.startswith("refused"))


def test_a_folder_that_cannot_be_locked_is_told_in_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UsageError, match="cannot be locked: Is a directory"), run_folder.only_run_in(tmp_path):
        pass


def _publish(folder: pathlib.Path, step: int, saved_at: float) -> pathlib.Path:
    import torch

    from overseer_training.training.checkpoints import Checkpoint, save_checkpoint

    path = save_checkpoint(folder, Checkpoint({"a": torch.ones(2)}, {"m": torch.ones(2)}, {"step": step}))
    os.utime(path, (saved_at, saved_at))
    return path


@pytest.mark.parametrize("jump", [-(10**8), 10**8])
def test_latest_is_the_run_that_was_started_last_whatever_the_clock_says(tmp_path: pathlib.Path, jump: int) -> None:
    now = time.time()
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        run_folder.mark_newest(tmp_path / name)
        _publish(tmp_path / name / "checkpoints", 5, now + number * jump)
    assert run_folder.find_checkpoint_to_resume("latest", tmp_path).parts[-3:] == ("b", "checkpoints", "step-000005")
    (tmp_path / "c").mkdir()  # started, and ended before its first checkpoint
    run_folder.mark_newest(tmp_path / "c")
    expected = "b" if jump > 0 else "a"
    assert run_folder.find_checkpoint_to_resume("latest", tmp_path).parts[-3] == expected


def test_a_checkpoint_that_was_saved_before_the_lock_was_taken_is_found(tmp_path: pathlib.Path) -> None:
    old = _publish(tmp_path, 5, 0)
    assert run_folder.newest_now(old) == old
    new = _publish(tmp_path, 10, 0)
    assert run_folder.newest_now(old) == new
    (new / "state.json").write_text("{}")
    assert run_folder.newest_now(old) == old


def test_jumps_of_the_wall_clock_change_nothing(
    zygote: Zygote, undisturbed: Callable[..., object], tmp_path: pathlib.Path
) -> None:
    options = {"flags": {"max-steps": 20, "save-steps": 5, "time-budget": "10m"}}
    reference = undisturbed(**options)
    folder = tmp_path / "run"
    assert zygote.start(folder, clock_jumps=True, **options).wait() == 0
    assert losses_of(folder) == reference.losses
