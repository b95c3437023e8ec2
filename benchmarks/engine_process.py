"""One engine, ours or TRL's `SFTTrainer`, that makes an optimizer step for each line on standard input. Started by `engines.py`.

    python benchmarks/engine_process.py ours|trl FOLDER

FOLDER has `plan.json`, `tokens.npz` and `case.json`. Answers are lines that begin with BENCH: `ready`, one a step with its seconds,
seconds of processors, tokens and loss, and at the end the peak of resident memory. The rows of a step are those of our schedule in both engines, and so is
the learning rate; both cut a step into micro-batches of rows of similar length.
"""

from __future__ import annotations

import json
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

ANSWER = "BENCH "


class Ended(Exception):
    """No further step was asked for."""


class Turns:
    """Waits for the word, and measures from there to the end of the step."""

    def __init__(self) -> None:
        self._started = 0.0
        self._cpu_started = 0.0

    def wait(self) -> None:
        if sys.stdin.readline().strip() != "step":
            raise Ended
        self._started, self._cpu_started = time.monotonic(), time.process_time()

    def report(self, **values: float) -> None:
        cpu_seconds = time.process_time() - self._cpu_started
        say(seconds=time.monotonic() - self._started, cpu_seconds=cpu_seconds, **values)


def main(engine: str, folder: pathlib.Path) -> None:
    """Get ready, make steps, end."""
    case = json.loads((folder / "case.json").read_text())
    try:
        {"ours": run_ours, "trl": run_trl}[engine](folder, case, Turns())
    except Ended:
        say(peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def say(**values: float) -> None:
    print(ANSWER + json.dumps(values), flush=True)


def read_tokens(folder: pathlib.Path) -> Any:
    import numpy as np

    from overseer_training.data.tokenize import TokenSet

    arrays = np.load(folder / "tokens.npz")
    return TokenSet(arrays["ids"], arrays["labels"], arrays["starts"])


def read_schedule(plan: Any, tokens: Any) -> Any:
    from overseer_training.training.batches import Schedule

    return Schedule(len(tokens), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)


def run_ours(folder: pathlib.Path, case: dict[str, Any], turns: Turns) -> None:
    """`training/engine.py` as a run uses it; it waits where it tells that a step is done."""
    from overseer_training.training.allocator import keep_freed_memory

    keep_freed_memory()
    import torch

    from overseer_training.config.plan import read_plan
    from overseer_training.models.load import load_to_train
    from overseer_training.training.engine import Trainer
    from overseer_training.training.stop_signals import StopSignals

    plan, tokens = read_plan(folder / "plan.json"), read_tokens(folder)
    base = pathlib.Path(case["base"])
    torch.manual_seed(plan.seed)
    model = load_to_train(base, base, plan, int(tokens.lengths.max()))
    model.train()

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "train":
            turns.report(tokens=event["tokens"], answer_tokens=event["answer_tokens"], loss=event["loss"])
            turns.wait()

    trainer = Trainer(model, tokens, tokens, plan, folder=pathlib.Path(tempfile.mkdtemp(dir=folder)), listener=listen)
    say(ready=1, **count_products(model))
    turns.wait()
    outcome = trainer.run(read_schedule(plan, tokens), StopSignals())
    raise SystemExit(f"our engine ended by itself: {outcome.message or outcome.reason}")


def count_products(model: Any) -> dict[str, float]:
    """Multiplications and additions that a token and an answer token need, by the definition in `engines.py`."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings().weight
    body = [
        parameter for parameter in causal.get_decoder().parameters() if parameter.dim() == 2 and parameter is not head
    ]
    needed = {True: 6, False: 4}  # forward, and backward for the input; where weights learn also for them
    return {
        "operations_per_token": sum(needed[parameter.requires_grad] * parameter.numel() for parameter in body),
        "operations_per_answer_token": needed[head.requires_grad] * head.numel(),
    }


def run_trl(folder: pathlib.Path, case: dict[str, Any], turns: Turns) -> None:
    """TRL in bf16, as `case["setting"]` says; it waits where it logs a step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from overseer_training.config.plan import read_plan
    from overseer_training.data.tokenize import IGNORED
    from overseer_training.models.load import ADAPTED_LAYERS, load_tokenizer
    from overseer_training.training.optimizer import BETAS, EPSILON, learning_rate_at

    plan, tokens, setting = read_plan(folder / "plan.json"), read_tokens(folder), case["setting"]
    schedule, lengths = read_schedule(plan, tokens), tokens.lengths
    is_full = plan.method == "full"
    torch.manual_seed(plan.seed)
    # Frozen weights need no fp32: autocast would only copy them again and again.
    model: Any = AutoModelForCausalLM.from_pretrained(case["base"], dtype=torch.float32 if is_full else torch.bfloat16)
    if not is_full:
        from peft import LoraConfig, get_peft_model

        adapters = LoraConfig(
            r=plan.lora_rank, lora_alpha=plan.lora_alpha, lora_dropout=plan.lora_dropout,
            target_modules=ADAPTED_LAYERS, task_type="CAUSAL_LM",
        )  # fmt: skip
        model = get_peft_model(model, adapters)
    parts = [slice(*tokens.starts[row : row + 2]) for row in range(len(tokens))]
    rows = [{"input_ids": tokens.ids[part].tolist(), "labels": tokens.labels[part].tolist()} for part in parts]

    class InTurn(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *arguments: Any, **others: Any) -> None:
            turns.wait()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if logs and "loss" in logs:
                of_step = schedule.rows_of_step(state.global_step - 1)
                answers = sum(int((tokens.labels[parts[row]] != IGNORED).sum()) for row in of_step)
                turns.report(tokens=int(lengths[of_step].sum()), answer_tokens=answers, loss=logs["loss"])
                turns.wait()

    class InOrder(SFTTrainer):  # type: ignore[misc]
        """Rows and learning rate of our schedule; within a step rows are sorted by length, as grouping by length would."""

        def _get_train_sampler(self, *arguments: Any, **others: Any) -> Any:
            return [
                row
                for step in range(schedule.total_steps)
                for row in sorted(schedule.rows_of_step(step), key=lambda row: -lengths[row])
            ]

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: learning_rate_at(step, 1.0, plan.warmup_steps, schedule.total_steps),
            )
            return self.lr_scheduler

    config = SFTConfig(
        output_dir=tempfile.mkdtemp(dir=folder), use_cpu=True, bf16=True, seed=plan.seed,
        per_device_train_batch_size=setting["rows"], gradient_accumulation_steps=plan.effective_batch_size // setting["rows"],
        padding_free=setting["is_padding_free"], torch_compile=setting["is_compiled"], gradient_checkpointing=False,
        max_length=None, dataset_kwargs={"skip_prepare_dataset": True}, max_steps=schedule.total_steps,
        learning_rate=plan.effective_learning_rate, weight_decay=plan.weight_decay, max_grad_norm=plan.max_grad_norm,
        optim="adamw_torch_fused", adam_beta1=BETAS[0], adam_beta2=BETAS[1], adam_epsilon=EPSILON,
        logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    tokenizer = load_tokenizer(pathlib.Path(case["base"]))
    trainer = InOrder(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[InTurn()],
    )
    say(ready=1)
    trainer.train()


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
