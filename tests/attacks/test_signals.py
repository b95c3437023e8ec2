"""Signals at random moments end a run with a checkpoint and the shell's code; two Ctrl-C end it at once; nohup is respected."""

from __future__ import annotations

import pathlib
import random
import signal
import time
from collections.abc import Callable

import pytest

from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints

from .victim import SOAK, Zygote, losses_of

STEPS = 40
OPTIONS = {"flags": {"max-steps": STEPS, "save-steps": 5}}


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_the_run_goes_on_exactly(
    zygote: Zygote, undisturbed: Callable[..., object], tmp_path: pathlib.Path, number: int, expected: int
) -> None:
    reference, rng, codes = undisturbed(every_step=True, **OPTIONS), random.Random(number), []
    for attempt in range(4 * SOAK):
        folder = tmp_path / str(attempt)
        for _ in range(3):
            victim = zygote.start(folder, **OPTIONS)
            victim.wait_for("R")
            victim.wait_for(rng.choice("TS"), rng.randint(1, 4))
            time.sleep(rng.uniform(0, 0.01))
            victim.kill(number)
            codes.append(victim.wait())
            made = len(losses_of(folder))
            if made == STEPS:  # the signal came late: all was done, and nothing listened any more
                assert codes[-1] in (0, expected, -number)
                break
            assert codes[-1] == expected
            assert find_checkpoint(folder / "checkpoints").name == f"step-{made:06d}"  # no step is lost
            assert reference.has(find_checkpoint(folder / "checkpoints"))
        assert zygote.start(folder, **OPTIONS).wait() == 0
        assert losses_of(folder) == reference.losses
    assert codes.count(expected) > len(codes) / 2  # most signals came in the middle


def test_a_second_ctrl_c_ends_at_once_and_costs_no_checkpoint(
    zygote: Zygote, undisturbed: Callable[..., object], tmp_path: pathlib.Path
) -> None:
    reference, rng = undisturbed(every_step=True, **OPTIONS), random.Random(0)
    folder, codes = tmp_path / "run", []
    for _ in range(12 * SOAK):
        victim = zygote.start(folder, **OPTIONS)
        victim.wait_for(rng.choice("RTS"))
        victim.kill(signal.SIGINT)
        time.sleep(rng.uniform(0, 0.03))
        victim.kill(signal.SIGINT)
        codes.append(victim.wait())
        if list_checkpoints(folder / "checkpoints"):
            assert reference.has(find_checkpoint(folder / "checkpoints"))
    assert set(codes) <= {0, 130} and 130 in codes
    assert zygote.start(folder, **OPTIONS).wait() == 0
    assert losses_of(folder) == reference.losses


def test_nohup_keeps_a_run_alive_when_the_terminal_closes(zygote: Zygote, tmp_path: pathlib.Path) -> None:
    victim = zygote.start(tmp_path / "run", ignore=[signal.SIGHUP], **OPTIONS)
    victim.wait_for("T")
    victim.kill(signal.SIGHUP)
    assert victim.wait() == 0
