"""Linear layers that read the same input, each with its low-rank adapter where it has one, as one operation of autograd.

Takes modules as they stand in a model and what they read; gives what they make of it. The gradient of the input is summed by the
matrix products themselves, and an adapter works in the precision of its layer, without copies of input and output in fp32. Layers
in another form (with a bias, DoRA, dropout, several adapters) answer by themselves.
"""

from __future__ import annotations

from typing import Any

import torch

Weights = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, float]


def project(hidden: torch.Tensor, *layers: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    """What each of `layers` makes of `hidden`, which is (..., width)."""
    known = [found for layer in layers if (found := _weights(layer)) is not None]
    if len(known) < len(layers):
        return tuple(layer(hidden) for layer in layers)
    flat = hidden.reshape(-1, hidden.shape[-1])
    weights = [part for weight, down, up, _ in known for part in (weight, down, up)]
    products = _Products.apply(flat, [scale for *_, scale in known], *weights)
    return tuple(product.view(*hidden.shape[:-1], -1) for product in products)


def _weights(layer: Any) -> Weights | None:
    """(weight, A, B, scale) of `layer`, where A and B are None without an adapter; None for a layer in another form."""
    if type(layer) is torch.nn.Linear:
        return (layer.weight, None, None, 0.0) if layer.bias is None else None
    base = getattr(layer, "base_layer", None)  # peft's layer; importing peft takes a second
    if type(layer).__name__ != "Linear" or type(base) is not torch.nn.Linear or base.bias is not None:
        return None
    if layer.merged or layer.disable_adapters or len(layer.active_adapters) != 1:
        return None
    name = layer.active_adapters[0]
    down, up = layer.lora_A[name], layer.lora_B[name]
    is_plain = name not in layer.lora_variant and isinstance(layer.lora_dropout[name], torch.nn.Identity)
    if not is_plain or up.bias is not None or down.weight.dtype != base.weight.dtype:
        return None
    return base.weight, down.weight, up.weight, float(layer.scaling[name])


class _Products(torch.autograd.Function):
    """hidden @ weight.T + scale * hidden @ A.T @ B.T for each layer."""

    @staticmethod
    def forward(
        ctx: Any, hidden_nd: torch.Tensor, scales: list[float], *weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        products, narrow = [], []
        for weight, down, up, scale in _layers(weights, scales):
            product = hidden_nd @ weight.T
            narrow.append(None if down is None else hidden_nd @ down.T)
            if up is not None:
                product.addmm_(narrow[-1], up.T, alpha=scale)
            products.append(product)
        ctx.save_for_backward(hidden_nd, *weights, *narrow)
        ctx.scales = scales
        return tuple(products)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        count = len(upstream)
        hidden_nd, *saved = ctx.saved_tensors
        weights, narrow = saved[: 3 * count], saved[3 * count :]
        needs_hidden, _, *needs = ctx.needs_input_grad
        hidden_slope: torch.Tensor | None = None
        slopes: list[torch.Tensor | None] = []
        for position, (weight, down, up, scale) in enumerate(_layers(weights, ctx.scales)):
            slope = upstream[position]
            if needs_hidden:
                hidden_slope = slope @ weight if hidden_slope is None else hidden_slope.addmm_(slope, weight)
            slopes.append(slope.T @ hidden_nd if needs[3 * position] else None)
            if down is None:
                slopes += [None, None]
                continue
            narrow_slope = (slope @ up).mul_(scale)
            slopes += [narrow_slope.T @ hidden_nd, (slope.T @ narrow[position]).mul_(scale)]
            if hidden_slope is not None:
                hidden_slope.addmm_(narrow_slope, down)
        return hidden_slope, None, *slopes


def _layers(weights: Any, scales: list[float]) -> list[tuple[Any, Any, Any, float]]:
    return list(zip(weights[0::3], weights[1::3], weights[2::3], scales, strict=True))
