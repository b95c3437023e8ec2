"""Norms and gated products that keep less for the backward pass than the library's, which save every intermediate result.

What a step keeps decides how much memory it needs, and on a CPU also how fast it is: these operations only move memory. The numbers
are those of the library's modules, up to rounding in the backward pass of the norm. Takes a model; replaces the forward functions of
modules that it knows, and leaves all others as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import gelu, silu

# Modules that compute weight * normalized, in the dtype of their input.
NORMS = {"LlamaRMSNorm", "Qwen2RMSNorm", "MistralRMSNorm", "SmolLM3RMSNorm"}
# Modules that compute normalized * (1 + weight) in fp32.
CENTERED_NORMS = {"Gemma3RMSNorm"}
GATED = {"LlamaMLP", "Qwen2MLP", "MistralMLP", "SmolLM3MLP", "Gemma3MLP"}

_gelu_tanh = functools.partial(gelu, approximate="tanh")
_gelu_tanh_backward = functools.partial(torch.ops.aten.gelu_backward, approximate="tanh")
ACTIVATIONS: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "silu": (silu, torch.ops.aten.silu_backward),
    "gelu_pytorch_tanh": (_gelu_tanh, _gelu_tanh_backward),
}


def install(model: torch.nn.Module) -> int:
    """Replace what is known in `model`; how many modules that were."""
    replaced = 0
    for module in model.modules():
        kind = type(module).__name__
        if kind in NORMS:
            module.forward = functools.partial(_norm, module)
        elif kind in CENTERED_NORMS:
            module.forward = functools.partial(_centered_norm, module)
        elif kind in GATED and _activation_name(module) in ACTIVATIONS:
            module.forward = functools.partial(_gated, module, _activation_name(module))
        else:
            continue
        replaced += 1
    return replaced


def _activation_name(module: Any) -> str:
    config = module.config
    return str(getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", ""))


def _norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    return module.weight * _Normalize.apply(hidden, module.variance_epsilon, hidden.dtype)


def _centered_norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    normalized = _Normalize.apply(hidden, module.eps, torch.float32)
    return (normalized * (1.0 + module.weight.float())).type_as(hidden)


def _gated(module: Any, activation: str, hidden: torch.Tensor) -> torch.Tensor:
    product = _GatedProduct.apply(module.gate_proj(hidden), module.up_proj(hidden), activation)
    return module.down_proj(product)  # type: ignore[no-any-return]


class _Normalize(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) over the last dimension, computed in fp32, given in `dtype`; keeps x and one number a row."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, epsilon: float, dtype: torch.dtype) -> torch.Tensor:
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))
        ctx.save_for_backward(hidden, scale)
        return (wide * scale).to(dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        hidden, scale = ctx.saved_tensors
        slope, normalized = upstream[0].float(), hidden.float() * scale
        along = (slope * normalized).mean(-1, keepdim=True)
        return ((slope - normalized.mul_(along)) * scale).to(hidden.dtype), None, None


class _GatedProduct(torch.autograd.Function):
    """activation(gate) * up; keeps its two inputs only."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return ACTIVATIONS[activation][0](gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        gate, up = ctx.saved_tensors
        forward, backward = ACTIVATIONS[ctx.activation]
        return backward(upstream[0] * up, gate), forward(gate).mul_(upstream[0]), None
