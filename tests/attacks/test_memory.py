"""Memory that runs out for real: a limit on the address space, and another program that takes the machine's RAM."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from overseer_training.config.machine import memory_limit_bytes, memory_used_bytes
from overseer_training.training.checkpoint_paths import find_checkpoint

from .victim import Zygote, losses_of

MIB = 1024**2
# A step of one micro-batch, whose activations are some tens of MiB; its longest row has 500 tokens.
LARGE = {"size": 128, "layers": 8, "longest": 250, "rows": 8}
FLAGS = {"max-steps": 2, "eval-steps": 100, "save-steps": 100, "micro-batch-size": 8, "sequence-length": 2048}
# Bounds of the search, in MiB more than a process has before its first step: nothing suffices; nothing is missing. What
# lies between differs from one processor to another, because their matrix kernels need room of their own.
TOO_LITTLE, PLENTY = 16, 512
TRIES = 7


linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")


def notices(folder: pathlib.Path) -> list[str]:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event["message"] for event in events if event.get("event") == "memory_backoff"]


SMALLER_PIECES, RECOMPUTED, STOPPED = 1, 2, 3  # what a run did about its memory, from much of it to little


@linux_only
def test_a_run_that_is_refused_memory_learns_the_same_with_less_or_saves_and_stops(
    zygote: Zygote, undisturbed: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    options = {**LARGE, "flags": {**FLAGS, "gradient-accumulation-steps": 1}}
    reference = undisturbed(**options).losses

    def end_with(extra: int) -> int:
        folder = tmp_path / str(extra)
        victim = zygote.start(folder, memory_above_now=extra * MIB, **options)
        code, told = victim.wait(), notices(folder)
        halved = [message for message in told if "micro-batches of at most" in message]
        assert all(message.startswith("out of memory: ") for message in told)
        assert told[: len(halved)] == halved and len(told) - len(halved) <= 1  # recomputing comes last
        if code:
            assert code == 5 and halved
            assert "with one row at a time; close programs or raise --ram-limit" in victim.output
            assert victim.output.count("\n") == 1 and "A checkpoint is saved" in victim.output
            find_checkpoint(folder / "checkpoints")
            return STOPPED
        for found, expected in zip(losses_of(folder), reference, strict=True):
            assert found == pytest.approx(expected, rel=1e-4)
        return RECOMPUTED if len(told) > len(halved) else SMALLER_PIECES if halved else 0

    ends = {TOO_LITTLE: end_with(TOO_LITTLE), PLENTY: end_with(PLENTY)}
    for wanted in (SMALLER_PIECES, RECOMPUTED):
        for _ in range(TRIES):
            if wanted in ends.values():
                break
            little = max(extra for extra, end in ends.items() if end > wanted)
            much = min(extra for extra, end in ends.items() if end < wanted)
            ends[(little + much) // 2] = end_with((little + much) // 2)
    print(f"\n{sorted(ends.items())}")
    assert set(ends.values()) == {0, SMALLER_PIECES, RECOMPUTED, STOPPED}


def test_another_program_that_takes_the_memory_ends_a_run_with_a_checkpoint(
    zygote: Zygote, tmp_path: pathlib.Path
) -> None:
    """The limit is a little above what is in use; then another process takes more and more, as long as the run is there."""
    limit = (memory_used_bytes() + 256 * MIB) / memory_limit_bytes()
    if limit > 0.8:
        pytest.skip("too little memory is free here")
    options = {"flags": {"max-steps": 3000, "save-steps": 100_000, "eval-steps": 100_000, "ram-limit": f"{limit:.4f}"}}
    victim = zygote.start(tmp_path / "run", **options)
    assert victim.wait_for("T", 3)
    program = f"import time\nblocks = []\nwhile len(blocks) < 32:\n    blocks.append(bytearray(b'x') * {128 * MIB})\n    time.sleep(0.3)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program]) as other:
        code = victim.wait()
        other.kill()
    if code == 0:
        pytest.skip("other programs gave back more memory than was taken")
    assert code == 5, victim.output
    assert "memory_limit RAM is" in victim.output and "--ram-limit" in victim.output
    assert "most is used by" in victim.output
    find_checkpoint(tmp_path / "run" / "checkpoints")
