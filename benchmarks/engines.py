"""Our engine and TRL's `SFTTrainer` on the same model, rows, effective batch, optimizer and precision, step by step in turn.

    .venv/bin/pip install trl==1.16.0 datasets       # development only
    .venv/bin/python benchmarks/engines.py --method full --steps 6

Each engine is a process of its own that makes one optimizer step when it is told to, so that both see the same noise of the machine and
their peak memory can be told apart. TRL runs in bf16 autocast over fp32 weights, the precision of our masters and copies, without
padding to a fixed length, with rows grouped by length, and with a loss on answers only. Tokens are those of the rows, without padding.
The share of the peak counts 6 products a weight and computed token (4 where weights are frozen), head included for answers only, against
bf16 products of 2,048 x 2,048 matrices in the same process.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

ROWS = 64  # of a step
LORA = {"rank": 32, "alpha": 64}
RATE = 5e-4


def main() -> None:
    """Start both engines, let them step in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--base-model", default="smollm2-135m")
    parser.add_argument("--micro-batch", type=int, default=16, help="rows at once of TRL")
    parser.add_argument("--steps", type=int, default=6, help="the first one is a warm-up and not counted")
    arguments = parser.parse_args()
    if arguments.engine:
        {"ours": run_ours, "trl": run_trl}[arguments.engine](arguments)
        return
    engines = {name: start(name) for name in ("ours", "trl")}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for step in range(arguments.steps):
        for name, process in engines.items():
            tell(process)
            results[name].append(hear(process))
            print(f"step {step} {name:<5} {json.dumps(results[name][-1])}", flush=True)
    for name, process in engines.items():
        tell(process, "end")
        last = hear(process)
        counted = results[name][1:]
        speed = statistics.median(entry["tokens"] / entry["seconds"] for entry in counted)
        print(
            f"{name}: {speed:.0f} tokens/s, peak memory {last['peak_gib']:.2f} GiB, loss {counted[-1]['loss']:.4f}, matrix products at {last['peak_gflops']:.0f} GFLOP/s"
        )
    ratios = [
        (left["tokens"] / left["seconds"]) / (right["tokens"] / right["seconds"])
        for left, right in zip(results["ours"][1:], results["trl"][1:], strict=True)
    ]
    print(
        f"ratio: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)} steps)"
    )


def start(engine: str) -> subprocess.Popen[str]:
    """A process for `engine` that is ready to step."""
    command = [sys.executable, __file__, "--engine", engine, *sys.argv[1:]]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    hear(process)
    return process


def tell(process: subprocess.Popen[str], word: str = "step") -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> dict[str, float]:
    """The next answer of an engine; everything else that it prints is passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("BENCH "):
            return dict(json.loads(line.removeprefix("BENCH ")))
    raise SystemExit("an engine ended early; see its messages above")


def say(**values: float) -> None:
    print("BENCH " + json.dumps({name: round(value, 5) for name, value in values.items()}), flush=True)


def finish() -> None:
    say(peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, peak_gflops=measure_products())


def measure_products(size: int = 2048, repeats: int = 10) -> float:
    """GFLOP/s of bf16 products of square matrices."""
    import torch

    matrix = torch.randn(size, size, dtype=torch.bfloat16)
    matrix @ matrix
    started = time.monotonic()
    for _ in range(repeats):
        matrix @ matrix
    return repeats * 2 * size**3 / (time.monotonic() - started) / 1e9


def prepare(arguments: argparse.Namespace) -> tuple[Any, Any, Any, pathlib.Path]:
    """(plan, rows in the order of the steps as a token set, schedule, base folder): the same for both engines."""
    from overseer_training.config.flags import build_parser
    from overseer_training.data.build import build_rows
    from overseer_training.data.tokenize import tokenize
    from overseer_training.models.fetch import prepare_base_model
    from overseer_training.models.load import load_tokenizer, stop_ids
    from overseer_training.planning import make_plan
    from overseer_training.training.batches import Schedule

    flags = build_parser().parse_args(
        ["--method", arguments.method, "--base-model", arguments.base_model, "--learning-rate", str(RATE), "--warmup-steps", "1",
         "--max-steps", str(arguments.steps), "--eval-steps", "100000", "--save-steps", "100000"]
    )  # fmt: skip
    plan, _ = make_plan(flags, for_run=True)
    rows = build_rows(plan).splits["train"]
    schedule = Schedule(len(rows), ROWS, 1, arguments.steps, plan.seed)
    chosen = [rows[row] for step in range(arguments.steps) for row in schedule.rows_of_step(step)]
    base = prepare_base_model(plan.base_model)
    tokenizer = load_tokenizer(base)
    tokens = tokenize(chosen, tokenizer, plan.sequence_length, stop_ids(tokenizer))
    if tokens.too_long:
        raise SystemExit("a row is too long for this plan")
    return plan, tokens, tokenizer, base


def run_ours(arguments: argparse.Namespace) -> None:
    """One optimizer step of `training/engine.py` for each line on standard input."""
    from overseer_training.training.allocator import keep_freed_memory

    keep_freed_memory()
    import tempfile

    import torch

    from overseer_training.models import load
    from overseer_training.training.batches import Schedule
    from overseer_training.training.engine import Trainer
    from overseer_training.training.stop_signals import StopSignals

    plan, tokens, _, base = prepare(arguments)
    torch.manual_seed(0)
    model = load.load_base(base, torch.bfloat16, "cpu", int(tokens.lengths.max()))
    if arguments.method == "lora":
        model = load.add_adapter(model, rank=LORA["rank"], alpha=LORA["alpha"], dropout=0.0, use_dora=False)
    model.train()
    heard: dict[str, Any] = {}
    plan = plan.with_values({"effective_learning_rate": (RATE, "the benchmark")})
    trainer = Trainer(
        model, tokens, tokens, plan, folder=pathlib.Path(tempfile.mkdtemp()), listener=lambda event: heard.update(event)
    )
    trainer.progress.total_steps = arguments.steps

    class InOrder(Schedule):
        def rows_of_step(self, step: int) -> list[int]:
            return list(range(step * ROWS, (step + 1) * ROWS))

    schedule, stop = InOrder(len(tokens), ROWS, 1, arguments.steps, 0), StopSignals()
    say(ready=1)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        started = time.monotonic()
        trainer._train_step(schedule, stop)
        say(seconds=time.monotonic() - started, tokens=heard["tokens"], loss=heard["loss"])
    finish()


def run_trl(arguments: argparse.Namespace) -> None:
    """The same with TRL; it waits at the beginning of each step."""
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    plan, tokens, tokenizer, base = prepare(arguments)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = [
        {
            "input_ids": tokens.ids[tokens.starts[row] : tokens.starts[row + 1]].tolist(),
            "labels": tokens.labels[tokens.starts[row] : tokens.starts[row + 1]].tolist(),
        }
        for row in range(len(tokens))
    ]
    lengths = tokens.lengths.tolist()

    class InTurn(TrainerCallback):  # type: ignore[misc]
        started = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if sys.stdin.readline().strip() == "end":
                control.should_training_stop = True
            self.started = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.seconds = time.monotonic() - self.started
            control.should_log = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if logs and "loss" in logs:
                step = state.global_step - 1
                say(seconds=self.seconds, tokens=sum(lengths[step * ROWS : (step + 1) * ROWS]), loss=logs["loss"])

    class Ordered(SFTTrainer):  # type: ignore[misc]
        """Takes rows in the order of the steps; within a step they are sorted by length, as grouping by length does."""

        def _get_train_sampler(self, *args: Any, **others: Any) -> Any:
            return [
                row
                for step in range(arguments.steps)
                for row in sorted(range(step * ROWS, (step + 1) * ROWS), key=lambda row: -lengths[row])
            ]

    peft_config = None
    if arguments.method == "lora":
        from peft import LoraConfig

        from overseer_training.models.load import ADAPTED_LAYERS

        peft_config = LoraConfig(
            r=LORA["rank"], lora_alpha=LORA["alpha"], target_modules=ADAPTED_LAYERS, task_type="CAUSAL_LM"
        )
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=arguments.micro_batch,
        gradient_accumulation_steps=ROWS // arguments.micro_batch, max_steps=arguments.steps, learning_rate=RATE,
        lr_scheduler_type="linear", warmup_steps=1, weight_decay=plan.weight_decay, adam_beta1=0.9, adam_beta2=0.95,
        max_grad_norm=plan.max_grad_norm, bf16=True, use_cpu=True, optim="adamw_torch_fused", packing=False,
        gradient_checkpointing=False, report_to=[], logging_strategy="no", save_strategy="no", disable_tqdm=True,
        max_length=plan.sequence_length, dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    trainer = Ordered(
        model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=peft_config, callbacks=[InTurn()],
    )  # fmt: skip
    say(ready=1)
    trainer.train()
    if sys.stdin.readable():
        sys.stdin.readline()
    finish()


if __name__ == "__main__":
    main()
