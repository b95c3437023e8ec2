"""Fused norms and gated products give the library's numbers, and keep less for the backward pass."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP, Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from overseer_training.models import fused

WIDTH, INNER = 24, 40


def modules(kind: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The library's module, and one with the same weights that was replaced."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(
            {
                "llama norm": lambda: LlamaRMSNorm(WIDTH),
                "gemma norm": lambda: Gemma3RMSNorm(WIDTH),
                "llama mlp": lambda: LlamaMLP(
                    LlamaConfig(hidden_size=WIDTH, intermediate_size=INNER, num_attention_heads=2)
                ),
                "gemma mlp": lambda: Gemma3MLP(Gemma3TextConfig(hidden_size=WIDTH, intermediate_size=INNER)),
            }[kind]()
        )
    with torch.no_grad():
        for left, right in zip(*(module.parameters() for module in made), strict=True):
            left.add_(torch.linspace(-0.5, 0.5, left.numel()).view_as(left))
            right.copy_(left)
    assert fused.install(made[1]) == 1
    return made[0], made[1]


def gradients(module: torch.nn.Module, dtype: torch.dtype) -> list[torch.Tensor]:
    module = module.to(dtype)
    hidden = torch.linspace(-3, 5, 2 * 3 * WIDTH, dtype=dtype).view(2, 3, WIDTH).sin().requires_grad_()
    out = module(hidden)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out).cos())
    return [out.detach(), hidden.grad, *(parameter.grad for parameter in module.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("kind", ["llama norm", "gemma norm", "llama mlp", "gemma mlp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_library(kind: str, dtype: torch.dtype) -> None:
    theirs, ours = (gradients(module, dtype) for module in modules(kind))
    assert torch.equal(theirs[0], ours[0])
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.02}
    for left, right in zip(theirs[1:], ours[1:], strict=True):
        torch.testing.assert_close(left, right, **tolerance)


@pytest.mark.parametrize("kind", ["llama norm", "gemma norm", "llama mlp", "gemma mlp"])
def test_less_is_kept_for_the_backward_pass(kind: str) -> None:
    def kept(module: torch.nn.Module) -> int:
        module = module.bfloat16()
        own = {parameter.data_ptr() for parameter in module.parameters()}
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.data_ptr() not in own:
                sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = module(torch.ones(64, WIDTH, dtype=torch.bfloat16, requires_grad=True))
        assert out.requires_grad
        return sum(sizes.values())

    theirs, ours = (kept(module) for module in modules(kind))
    assert ours < theirs


def test_unknown_modules_stay_as_they_are() -> None:
    assert fused.install(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))) == 0
