"""A tiny model, rows that it can learn, and a plan, for tests of the engine."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan
from overseer_training.config.resolve import resolve
from overseer_training.data.tokenize import IGNORED, TokenSet
from overseer_training.training.engine import Trainer

VOCABULARY = 64


def make_tokens(rows: int, seed: int = 0) -> TokenSet:
    """Rows of 6 to 20 tokens whose answer repeats their prompt."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    labels: list[int] = []
    starts = [0]
    for _ in range(rows):
        half = [int(token) for token in rng.integers(3, VOCABULARY, rng.integers(3, 11))]
        ids += [*half, *half]
        labels += [IGNORED] * len(half) + half
        starts.append(len(ids))
    return TokenSet(np.array(ids, np.int32), np.array(labels, np.int32), np.array(starts, np.int64))


def build_plan(*arguments: str) -> Plan:
    """The plan of a fast run on the CPU, with `arguments` as flags."""
    fast = ("--device", "cpu", "--precision", "fp32", "--micro-batch-size", "4", "--gradient-accumulation-steps", "2")
    flags = build_parser().parse_args(
        [*fast, "--method", "full", "--warmup-steps", "2", "--ram-limit", "1.0", *arguments]
    )
    plan = resolve(flags, load_configuration(), find_machine(), for_run=True)
    random_at_first = {"train_embeddings": (True, "test")}
    return plan.with_values({"effective_learning_rate": (3e-3, "test"), **random_at_first})


def build_model(precision: str) -> LlamaForCausalLM:
    """A tiny model with the random weights of torch's seed."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    return model.to(torch.bfloat16) if precision == "bf16" else model


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    return build_plan


@pytest.fixture
def make_trainer(tmp_path: pathlib.Path) -> Callable[..., Trainer]:
    def make(
        plan: Plan, *, folder: pathlib.Path | None = None, events: list[Any] | None = None, rows: int = 40
    ) -> Trainer:
        torch.manual_seed(plan.seed)
        return Trainer(
            build_model(plan.precision),
            make_tokens(rows),
            make_tokens(8, seed=1),
            plan,
            folder=folder or tmp_path / "checkpoints",
            listener=(events if events is not None else []).append,
        )

    return make
