"""Proves on this machine that a run which is killed and resumed ends in the same bytes as one that is left alone.

    python -m overseer_training.training.resume_proof FOLDER     trains a tiny model in FOLDER, or goes on where it stopped

`prove_resume` starts that three times: to the end; until it is killed with SIGKILL between two checkpoints; and again in a new
process. Device and precision are those of a run on this machine; the loop, the checkpoints and how a model is loaded are the real ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan
from overseer_training.config.resolve import resolve
from overseer_training.errors import TrainingError
from overseer_training.files import sha256
from overseer_training.training.checkpoint_paths import FILES, find_checkpoint, list_checkpoints, step_of

STEPS, SAVE_EVERY, KILLED_AFTER = 30, 5, 13
ROWS, VALIDATION_ROWS, VOCABULARY = 96, 16, 512
FLAGS = (
    *("--max-steps", str(STEPS), "--save-steps", str(SAVE_EVERY), "--eval-steps", "10", "--epochs", "10"),
    *(
        "--micro-batch-size",
        "4",
        "--gradient-accumulation-steps",
        "2",
        "--sequence-length",
        "64",
        "--warmup-steps",
        "3",
    ),
    *("--ram-limit", "1.0", "--early-stopping-patience", "1000", "--method", "full"),
)
LOG = "steps.jsonl"
TIMEOUT_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        differences: what is not the same; empty when everything is.
        resumed_from: the step of the checkpoint that the new process went on from.
    """

    device: str
    precision: str
    differences: tuple[str, ...]
    killed_after: int
    resumed_from: int
    seconds: float


def prove_resume(folder: pathlib.Path) -> Proof:
    """Train in `folder` without and with an interruption, and compare weights, optimizer, rows and losses byte for byte.

    Raises:
        TrainingError: a process failed before there was anything to compare.
    """
    started = time.monotonic()
    whole, cut = folder / "whole", folder / "cut"
    undisturbed, victim = _start(whole), _start(cut)
    killed_after = _kill_after(victim, KILLED_AFTER)
    resumed_from = step_of(find_checkpoint(cut))
    _finish(undisturbed)
    _finish(_start(cut))
    plan = _plan()
    return Proof(
        plan.device,
        plan.precision,
        tuple(_differences(whole, cut)),
        killed_after,
        resumed_from,
        time.monotonic() - started,
    )


def train(folder: pathlib.Path) -> None:
    """Train the tiny model in `folder` to its last step, from its newest checkpoint if there is one; says each step."""
    import torch

    from overseer_training.models.load import DTYPES, load_base
    from overseer_training.training.batches import Schedule
    from overseer_training.training.checkpoints import load_checkpoint
    from overseer_training.training.engine import Trainer
    from overseer_training.training.stop_signals import StopSignals

    plan, rows, validation = _plan(), _make_rows(ROWS, 0), _make_rows(VALIDATION_ROWS, 1)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    _make_model(folder / "model")
    model = load_base(folder / "model", DTYPES[plan.precision], plan.device, int(rows.lengths.max()))
    model.train()
    inputs = hashlib.sha256()

    def note_inputs(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        if model.training:
            inputs.update(options["input_ids"].cpu().numpy().tobytes())

    def note_step(event: Mapping[str, Any]) -> None:
        nonlocal inputs
        if event["kind"] != "train":
            return
        line = {name: event[name] for name in ("step", "loss", "grad_norm", "learning_rate", "answer_tokens")}
        with (folder / LOG).open("a") as log:
            log.write(json.dumps({**line, "inputs": inputs.hexdigest()}) + "\n")
        inputs = hashlib.sha256()
        print(event["step"], flush=True)

    model.get_decoder().register_forward_pre_hook(note_inputs, with_kwargs=True)
    trainer = Trainer(model, rows, validation, plan, folder=folder, listener=note_step)
    resumed = find_checkpoint(folder) if list_checkpoints(folder) else None
    if resumed is not None:
        trainer.restore(load_checkpoint(resumed))
    schedule = Schedule(len(rows), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
    trainer.run(schedule, StopSignals(), resumed)


def _plan() -> Plan:
    plan = resolve(build_parser().parse_args(list(FLAGS)), load_configuration(), find_machine(), for_run=True)
    return plan.with_values({"effective_learning_rate": (3e-3, "chosen for the tiny model")})


def _make_rows(count: int, seed: int) -> Any:
    """A `TokenSet` of rows whose answer repeats their prompt."""
    import numpy as np

    from overseer_training.data.tokenize import IGNORED, TokenSet

    draw = np.random.default_rng(seed)
    halves = [draw.integers(3, VOCABULARY, draw.integers(3, 24)) for _ in range(count)]
    ids = np.concatenate([np.concatenate([half, half]) for half in halves])
    labels = np.concatenate([np.concatenate([np.full_like(half, IGNORED), half]) for half in halves])
    starts = np.cumsum([0, *(2 * len(half) for half in halves)])
    return TokenSet(ids.astype(np.int32), labels.astype(np.int32), starts)


def _make_model(folder: pathlib.Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").exists():
        return
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _start(folder: pathlib.Path) -> subprocess.Popen[str]:
    root = str(pathlib.Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", "overseer_training.training.resume_proof", str(folder.resolve())],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": str(max(1, find_machine().cores // 2)),
        },  # two at a time
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _kill_after(process: subprocess.Popen[str], step: int) -> int:
    """Kill the process once it has said `step`; the last step that it said."""
    said = 0
    for line in process.stdout or ():
        said = int(line)
        if said == step:
            process.kill()
    errors = process.communicate(timeout=TIMEOUT_SECONDS)[1]
    if said < step:
        raise TrainingError(f"the proof's training ended at step {said}: {(errors.splitlines() or ['no message'])[-1]}")
    return said


def _finish(process: subprocess.Popen[str]) -> None:
    errors = process.communicate(timeout=TIMEOUT_SECONDS)[1]
    if process.returncode:
        raise TrainingError(f"the proof's training failed: {(errors.splitlines() or ['no message'])[-1]}")


def _differences(left: pathlib.Path, right: pathlib.Path) -> list[str]:
    """What the last checkpoints and the steps of two runs do not have in common, in the words of a person."""
    last = [list_checkpoints(folder)[0] for folder in (left, right)]
    names = {FILES[0]: "weights", FILES[1]: "optimizer", "best.safetensors": "best weights"}
    found = [text for name, text in names.items() if sha256(last[0] / name) != sha256(last[1] / name)]
    states = [json.loads((path / FILES[2]).read_text()) for path in last]
    for state in states:
        del state["seconds"]
    found += [name for name in states[0] if states[0][name] != states[1].get(name)]
    steps = [_read_steps(folder) for folder in (left, right)]
    for name, text in (("inputs", "order of rows"), ("loss", "losses"), ("grad_norm", "gradient norms")):
        if [step[name] for step in steps[0]] != [step[name] for step in steps[1]]:
            found.append(text)
    return found


def _read_steps(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Each step as it was last made: those after the checkpoint were made twice."""
    steps: dict[int, dict[str, Any]] = {}
    for line in (folder / LOG).read_text().splitlines():
        try:
            step = json.loads(line)
        except ValueError:  # torn by the kill
            continue
        steps[step["step"]] = step
    return [steps[number] for number in sorted(steps)]


if __name__ == "__main__":
    train(pathlib.Path(sys.argv[1]))
