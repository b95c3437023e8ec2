"""Our engine and TRL's `SFTTrainer` on the same model, rows, effective batch, optimizer, schedule and precision, in turn.

    make bench                                                      # TRL is installed for it: development only
    python benchmarks/engines.py --cases full --turns 3
    python benchmarks/engines.py --cases full --setting padded:16   # of TRL; without it each is tried and the fastest is taken

Each engine is a process of its own, so that peaks of memory can be told apart. They take turns of some optimizer steps, so that both
see the same noise of the machine. The first turn warms up: its losses are compared, its seconds are not counted. Tokens are those of
the rows, padding and what is computed once for many rows left out. The interval of a ratio is the range of its turns, which holds the
median with a confidence of 1 - 2^(1 - turns).

The share of the peak counts the multiplications and additions that the rows need: 6 a weight and token, 4 where weights are
frozen, and those of the output head for answer tokens alone; against bf16 products of 2,048 x 2,048 matrices before the same turn.
Both are counted by seconds of processors. On a busy machine set OMP_NUM_THREADS=1: threads that wait for each other are most of what
is measured there otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from engine_process import ANSWER

from overseer_training.config.flags import build_parser
from overseer_training.data.build import build_rows
from overseer_training.data.tokenize import tokenize
from overseer_training.files import write_text
from overseer_training.models.fetch import prepare_base_model
from overseer_training.models.load import load_tokenizer, stop_ids
from overseer_training.planning import make_plan
from overseer_training.records import Example

CASES = {
    "full": ("smollm2-135m", "full"),
    "lora": ("smollm2-135m", "lora"),
    "gemma-lora": ("gemma3-270m", "lora"),
}
SETTINGS = ("padded:8", "padded:16", "padded:32", "padding-free:16")
TRIAL_STEPS = 2
WARMUP_STEPS = 10
PROCESSOR = "cpu_seconds"  # of all threads: the clock that other programs of a busy machine disturb least
Step = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Turn:
    """What both engines did between two looks at the machine; `peak` in operations a second of a processor."""

    ours: list[Step]
    trl: list[Step]
    peak: float


def main() -> None:
    """Measure each case; print its turns and the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps of a turn")
    parser.add_argument("--rows", type=int, default=64, help="rows of a step")
    parser.add_argument("--setting", help="of TRL: padded or padding-free, colon, rows at once, and +compile")
    arguments = parser.parse_args()
    lines = []
    steps = arguments.turns * arguments.steps + 1
    rows = choose_rows(arguments.rows * (steps + 2))
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            case = prepare(name, pathlib.Path(folder), rows, arguments.rows, steps)
            lines.append(measure_case(name, pathlib.Path(folder), case, arguments))
    print(
        "\n| | ours, tokens/s | TRL, tokens/s | ratio | of processor time | peak memory | share of the peak | mean loss | TRL's setting |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


def measure_case(name: str, folder: pathlib.Path, case: dict[str, Any], arguments: argparse.Namespace) -> str:
    """The line of the table for one case."""
    possible = [setting for setting in SETTINGS if arguments.rows % rows_at_once(setting) == 0]
    setting = arguments.setting or fastest_setting(name, folder, case, possible)
    write_case(folder, case, setting)
    ours, trl = Engine("ours", folder), Engine("trl", folder)
    turns: list[Turn] = []
    for number in range(arguments.turns + 1):
        turns.append(take_turn(ours, trl, arguments.steps if number else 1))
        speeds = speed(turns[-1].ours), speed(turns[-1].trl)
        print(
            f"{name} turn {number}: ours {speeds[0]:.0f}, TRL {speeds[1]:.0f} tokens/s, ratio {speeds[0] / speeds[1]:.2f} "
            f"(of processor time {speed(turns[-1].ours, PROCESSOR) / speed(turns[-1].trl, PROCESSOR):.2f}), "
            f"bf16 products at {turns[-1].peak / 1e9:.0f} GFLOP/s a processor, losses {turns[-1].ours[-1]['loss']:.4f} {turns[-1].trl[-1]['loss']:.4f}",
            flush=True,
        )
    peaks = ours.end()["peak_gib"], trl.end()["peak_gib"]
    return table_line(name, setting, turns, peaks, ours.ready)


def table_line(name: str, setting: str, turns: list[Turn], peaks: tuple[float, float], ready: Step) -> str:
    counted = turns[1:]
    ratios, of_processors = (
        [speed(turn.ours, clock) / speed(turn.trl, clock) for turn in counted] for clock in ("seconds", PROCESSOR)
    )
    shares = {
        which: statistics.median(
            sum(operations(step, ready) for step in getattr(turn, which))
            / sum(step[PROCESSOR] for step in getattr(turn, which))
            / turn.peak
            for turn in counted
        )
        for which in ("ours", "trl")
    }
    pairs = [pair for turn in turns for pair in zip(turn.ours, turn.trl, strict=True)]
    losses = [statistics.mean(step["loss"] for step in steps) for steps in zip(*pairs, strict=True)]
    furthest = max(abs(left["loss"] / right["loss"] - 1) for left, right in pairs)
    medians = [statistics.median(speed(getattr(turn, which)) for turn in counted) for which in ("ours", "trl")]
    return (
        f"| {name} | {medians[0]:.0f} | {medians[1]:.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"n = {len(ratios)}) | {statistics.median(of_processors):.2f} | {peaks[0]:.2f}, {peaks[1]:.2f} GiB | {shares['ours']:.0%}, {shares['trl']:.0%} | "
        f"{losses[0]:.4f}, {losses[1]:.4f} ({losses[0] / losses[1] - 1:+.2%}; of a step at most {furthest:.2%}, n = {len(pairs)}) | {setting} |"
    )


def choose_rows(count: int) -> list[Example]:
    """Some rows that a run without flags trains on."""
    plan, _ = make_plan(build_parser().parse_args([]), for_run=True)
    with tempfile.TemporaryDirectory() as folder:
        return random.Random(plan.seed).sample(build_rows(plan, pathlib.Path(folder))["train"], count)


def prepare(name: str, folder: pathlib.Path, rows: list[Example], rows_of_step: int, steps: int) -> dict[str, Any]:
    """Write plan and rows for both engines; what they need beside them."""
    base_model, method = CASES[name]
    flags = build_parser().parse_args(
        ["--method", method, "--base-model", base_model, "--max-steps", str(steps + 1), "--warmup-steps", "1",
         "--gradient-accumulation-steps", "1", "--eval-steps", "100000", "--save-steps", "100000", "--precision", "bf16"]
    )  # fmt: skip
    plan, forecast = make_plan(flags, for_run=True)
    base = prepare_base_model(plan.base_model)
    tokenizer = load_tokenizer(base)
    tokens = tokenize(rows, tokenizer, plan.sequence_length, stop_ids(tokenizer))
    np.savez(folder / "tokens.npz", ids=tokens.ids, labels=tokens.labels, starts=tokens.starts)
    accumulation, rest = divmod(rows_of_step, plan.micro_batch_size)
    if rest:
        raise SystemExit(f"--rows must be a multiple of {plan.micro_batch_size}, the plan's micro-batch")
    plan = plan.with_values(
        {
            "gradient_accumulation_steps": (accumulation, "the benchmark"),
            "warmup_steps": (WARMUP_STEPS, "the benchmark: the beginning of a run"),
            "ram_limit": (1.0, "the benchmark: two engines share the memory"),
        }
    )
    write_text(folder / "plan.json", plan.as_json(forecast))
    print(
        f"{name}: {len(tokens)} rows of {tokens.lengths.mean():.0f} tokens ({tokens.lengths.max()} at most), {rows_of_step} a step, "
        f"learning rate {plan.effective_learning_rate:.3g}",
        flush=True,
    )
    return {"base": str(base)}


def write_case(folder: pathlib.Path, case: dict[str, Any], setting: str) -> None:
    chosen = {
        "rows": rows_at_once(setting),
        "is_padding_free": setting.startswith("padding-free"),
        "is_compiled": setting.endswith("+compile"),
    }
    write_text(folder / "case.json", json.dumps({**case, "setting": chosen}))


def rows_at_once(setting: str) -> int:
    return int(setting.partition(":")[2].partition("+")[0])


def fastest_setting(name: str, folder: pathlib.Path, case: dict[str, Any], settings: list[str]) -> str:
    """TRL's setting with the fastest step of a few, in processor time; each runs alone."""
    seconds = {}
    for setting in settings:
        write_case(folder, case, setting)
        engine = Engine("trl", folder)
        steps = list(engine.make_steps(TRIAL_STEPS))
        peak = engine.end()["peak_gib"]
        seconds[setting] = min(step[PROCESSOR] for step in steps)
        print(
            f"{name} TRL {setting}: {max(speed([step]) for step in steps):.0f} tokens/s, "
            f"{max(speed([step], PROCESSOR) for step in steps):.0f} a second of a processor, {peak:.2f} GiB, "
            f"losses {', '.join(format(step['loss'], '.4f') for step in steps)}",
            flush=True,
        )
    return min(seconds, key=lambda setting: seconds[setting])


class Engine:
    """A process that makes steps when it is told to."""

    def __init__(self, name: str, folder: pathlib.Path) -> None:
        self._messages = folder / f"{name}.log"
        program = pathlib.Path(__file__).with_name("engine_process.py")
        with self._messages.open("w") as messages:
            self._process = subprocess.Popen(
                [sys.executable, str(program), name, str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True,
            )  # fmt: skip
        self.ready = self._hear()

    def make_steps(self, count: int) -> Iterator[Step]:
        """`count` optimizer steps, one after another."""
        for _ in range(count):
            self._tell("step")
            yield self._hear()

    def end(self) -> Step:
        """End the process; its peak of memory."""
        self._tell("end")
        last = self._hear()
        self._process.wait()
        return last

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _hear(self) -> Step:
        """The next answer; whatever else the libraries print is passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return dict(json.loads(line.removeprefix(ANSWER)))
        last = self._messages.read_text().strip().splitlines()[-1:]
        raise SystemExit(f"an engine ended early: {' '.join(last) or 'without a message'}")


def take_turn(ours: Engine, trl: Engine, steps: int) -> Turn:
    peak = measure_products()
    return Turn(list(ours.make_steps(steps)), list(trl.make_steps(steps)), peak)


def speed(steps: list[Step], clock: str = "seconds") -> float:
    """Tokens a second."""
    return sum(step["tokens"] for step in steps) / sum(step[clock] for step in steps)


def operations(step: Step, ready: Step) -> float:
    return step["tokens"] * ready["operations_per_token"] + step["answer_tokens"] * ready["operations_per_answer_token"]


def measure_products(size: int = 2048, repeats: int = 10) -> float:
    """Operations a second of a processor, of bf16 products of square matrices."""
    matrix = torch.randn(size, size, dtype=torch.bfloat16)
    matrix @ matrix
    started = time.process_time()
    for _ in range(repeats):
        matrix @ matrix
    return repeats * 2 * size**3 / (time.process_time() - started)


if __name__ == "__main__":
    main()
