"""The model that another process builds, from what the first one tells about its own, has a place for each of its numbers."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import find_machine
from overseer_training.config.resolve import resolve
from overseer_training.models.load import architecture_of, build_to_train, load_to_train

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": True,
}  # fmt: skip


def layout_of(model: torch.nn.Module) -> list[Any]:
    numbers = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in numbers]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "lora", "dora"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_another_process_builds_the_same_model(tmp_path: pathlib.Path, kind: str, method: str, precision: str) -> None:
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**SIZES))
        if kind == "llama"
        else Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=16))
    )
    model.save_pretrained(tmp_path)
    flags = build_parser().parse_args(["--device", "cpu", "--method", method, "--precision", precision])
    plan = resolve(flags, load_configuration(), find_machine(), for_run=True)
    first = load_to_train(tmp_path, tmp_path, plan, longest_row=20)
    architecture = architecture_of(first)
    assert json.dumps(architecture.config)  # plain values
    other = build_to_train(architecture, plan, longest_row=20)
    assert layout_of(other) == layout_of(first)
    assert other.config._attn_implementation == first.config._attn_implementation
