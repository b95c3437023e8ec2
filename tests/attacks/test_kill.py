"""kill -9 at any moment: the next process goes on from a whole checkpoint, and every byte is that of a run left alone."""

from __future__ import annotations

import pathlib
import random
import signal
import time
from collections.abc import Callable

import pytest

from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints, step_of

from .victim import SOAK, Zygote, losses_of

KILLS = 100 * SOAK
SAVE_EVERY = 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kill_9_at_random_moments(
    zygote: Zygote, undisturbed: Callable[..., object], tmp_path: pathlib.Path, precision: str
) -> None:
    """Half of the kills hit a save; dropout draws random numbers, which must go on where they were."""
    options = {"flags": {"max-steps": 150, "save-steps": SAVE_EVERY, "precision": precision}, "dropout": 0.1}
    reference = undisturbed(**options)
    rng = random.Random(precision)
    kills = inside = runs = 0
    longest = 0.02  # seconds that a kill waits in a save; fitted to how long saves take here
    while kills < KILLS // 2:
        folder = tmp_path / f"run-{runs}"
        runs += 1
        resumed, code, aims_at_save = 0, -signal.SIGKILL, False
        while code == -signal.SIGKILL:
            victim = zygote.start(folder, **options)
            if kills < KILLS // 2:
                aims_at_save = 2 * inside < kills + 4
                if aims_at_save:
                    victim.wait_for("S", rng.randint(1, 3))
                    time.sleep(rng.uniform(0, longest))
                else:
                    victim.wait_for("R")
                    time.sleep(rng.uniform(0, 0.1))
                victim.kill()
            code = victim.wait()
            assert code in (0, -signal.SIGKILL), victim.output
            kills += code != 0
            inside += code != 0 and victim.was_saving
            if aims_at_save:
                longest *= 1.3 if victim.was_saving else 0.6
            if list_checkpoints(folder / "checkpoints"):
                said: list[str] = []
                found = find_checkpoint(folder / "checkpoints", said.append)
                assert said == []  # nothing half written carries the name of a checkpoint
                assert reference.has(found)
                assert step_of(found) >= resumed + victim.events.count("T") - SAVE_EVERY
                resumed = step_of(found)
        assert losses_of(folder) == reference.losses
        assert resumed == 150
    print(f"\n{kills} kills, {inside} of them inside a save, {runs} runs, {precision}")
    assert 2 * inside >= kills


def test_kill_9_before_each_operation_of_a_save(
    zygote: Zygote, undisturbed: Callable[..., object], tmp_path: pathlib.Path
) -> None:
    """Each call that changes files, and the middle of each large write; the second time around a kill leaves no rubbish."""
    options = {"flags": {"max-steps": 10, "save-steps": SAVE_EVERY}}
    reference = undisturbed(**options)
    number = 0
    while True:
        number += 1
        folder = tmp_path / f"at-{number}"
        victim = zygote.start(folder, kill_at=number, save=3, **options)
        code = victim.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL and victim.was_saving, victim.output
        found = find_checkpoint(folder / "checkpoints")
        assert reference.has(found) and step_of(found) in (4, 6)
        if number % 4 == 0 or SOAK > 1:
            assert zygote.start(folder, **options).wait() == 0
            assert losses_of(folder) == reference.losses
            assert reference.has(find_checkpoint(folder / "checkpoints"))
            names = sorted(path.name for path in (folder / "checkpoints").iterdir())
            assert names == ["best.safetensors", "step-000008", "step-000010"]
    print(f"\n{number - 1} operations of a save")
    assert number > 15
