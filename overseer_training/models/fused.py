"""Norms, gated products and attention that keep and copy less than the library's, which save every intermediate result.

What a step keeps decides how much memory it needs, and on a CPU also how fast it is: these operations only move memory. The numbers
are those of the library's modules, up to rounding. Takes a model; replaces the forward functions of modules that it knows, and
leaves all others as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import gelu, silu

from overseer_training.models.attention import RowLayout, attend
from overseer_training.models.products import project

# Modules that compute weight * normalized, in the dtype of their input.
NORMS = {"LlamaRMSNorm", "Qwen2RMSNorm", "MistralRMSNorm", "SmolLM3RMSNorm"}
# Modules that compute normalized * (1 + weight) in fp32.
CENTERED_NORMS = {"Gemma3RMSNorm"}
ATTENTION = {"LlamaAttention", "Qwen2Attention", "MistralAttention", "Gemma3Attention"}
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
        elif kind in ATTENTION:
            module.forward = functools.partial(_attention, module)
        else:
            continue
        replaced += 1
    return replaced


def _activation_name(module: Any) -> str:
    config = module.config
    return str(getattr(config, "hidden_act", None) or getattr(config, "hidden_activation", ""))


def _norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    return _normalize(hidden, module.weight, module.variance_epsilon, is_centered=False)


def _centered_norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    return _normalize(hidden, module.weight, module.eps, is_centered=True)


def _normalize(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float, *, is_centered: bool) -> torch.Tensor:
    normalized, scale = _Norm.apply(hidden, weight, epsilon, is_centered)
    normalized.again = functools.partial(_scaled, hidden, weight, scale, is_centered)  # for whoever would keep it
    return normalized  # type: ignore[no-any-return]


@torch.no_grad()
def _scaled(hidden: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, is_centered: bool) -> torch.Tensor:
    wide = hidden.float() * scale
    return wide.mul_(1.0 + weight.float()).to(hidden.dtype) if is_centered else wide.to(hidden.dtype) * weight


def _project_again(
    again: Callable[[], torch.Tensor] | None, hidden: torch.Tensor, *layers: torch.nn.Module
) -> tuple[torch.Tensor, ...]:
    """`project`, but for the backward pass the input is computed once more by `again` instead of kept."""
    if again is None:
        return project(hidden, *layers)

    def keep(saved: torch.Tensor) -> torch.Tensor | torch.Size:
        return saved.shape if saved.data_ptr() == hidden.data_ptr() else saved

    def give(kept: torch.Tensor | torch.Size) -> torch.Tensor:
        return kept if isinstance(kept, torch.Tensor) else again().view(kept)

    with torch.autograd.graph.saved_tensors_hooks(keep, give):
        return project(hidden, *layers)


def _gated(module: Any, activation: str, hidden: torch.Tensor) -> torch.Tensor:
    gate, up = _project_again(getattr(hidden, "again", None), hidden, module.gate_proj, module.up_proj)
    product = _GatedProduct.apply(gate, up, activation)
    again = functools.partial(_gated_product, gate, up, activation)
    return _project_again(again, product, module.down_proj)[0]


def _attention(
    module: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    *arguments: Any,
    layout: RowLayout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention to packed rows without the library's copies; without a layout the library answers."""
    if layout is None:
        answer: tuple[torch.Tensor, torch.Tensor | None] = type(module).forward(
            module, hidden_states, position_embeddings, *arguments, **others
        )
        return answer
    query, key, value = (
        heads.view(heads.shape[0], -1, module.head_dim)
        for heads in _project_again(
            getattr(hidden_states, "again", None), hidden_states[0], module.q_proj, module.k_proj, module.v_proj
        )
    )
    if hasattr(module, "q_norm"):
        query, key = module.q_norm(query), module.k_norm(key)
    cosine, sine = position_embeddings
    mixed = attend(query, key, value, (cosine[0], sine[0]), module.scaling, layout)
    return project(mixed, module.o_proj)[0][None], None


class _Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) over the last dimension, in fp32, times a weight; keeps x and one number a row, which it gives too.

    `is_centered` is Gemma's form: the weight is added to 1, and rounding comes after the product instead of before.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, epsilon: float, is_centered: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scale = torch.rsqrt(hidden.float().square().mean(-1, keepdim=True).add_(epsilon))
        ctx.save_for_backward(hidden, weight, scale)
        ctx.mark_non_differentiable(scale)
        ctx.is_centered = is_centered
        return _scaled(hidden, weight, scale, is_centered), scale

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        hidden, weight, scale = ctx.saved_tensors
        factor = weight.float() + 1.0 if ctx.is_centered else weight.float()
        normalized = hidden.float() * scale
        product = upstream[0] * normalized
        weight_slope = product.flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        along = (product @ factor).div_(len(factor))[..., None]
        slope = (upstream[0] * factor).addcmul_(normalized, along, value=-1).mul_(scale)
        return slope.to(hidden.dtype), weight_slope, None, None


@torch.no_grad()
def _gated_product(gate: torch.Tensor, up: torch.Tensor, activation: str) -> torch.Tensor:
    return ACTIVATIONS[activation][0](gate).mul_(up)


class _GatedProduct(torch.autograd.Function):
    """activation(gate) * up; keeps its two inputs only."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return _gated_product(gate, up, activation)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        gate, up = ctx.saved_tensors
        forward, backward = ACTIVATIONS[ctx.activation]
        return backward(upstream[0] * up, gate), forward(gate).mul_(upstream[0]), None
