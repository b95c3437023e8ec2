"""Causal attention over rows that lie one after another in one sequence, without padding between them.

Every other operation of a decoder looks at one token at a time, so a micro-batch can be one sequence of all its rows. Only here do
rows become a padded block, as plain batched matrix products: for short rows they are faster on a CPU than the fused kernel.
A row may continue another one: its tokens attend to the parent's first. So the start that many rows share is computed once.
Registered under the name `packed_rows` with transformers; used only for architectures whose layers all attend causally to the
whole row.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "packed_rows"
LONGEST_ROW = 256  # chosen: the squares of scores stay small
PLAIN_ARCHITECTURES = {"llama", "qwen2", "smollm3", "mistral", "gemma3_text"}


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """Where the rows of a sequence of n tokens are. The first `parents` rows are shared starts of `shared` tokens each.

    Attributes:
        slots_rt: (rows, longest) int64 position in the sequence of each row's tokens; unused slots hold 0.
        key_slots_rk: (rows, shared + longest) int64; the parent's tokens before the own ones.
        used_n: (n,) int64 index of each token in the flattened `slots_rt`.
        is_used_rt1: (rows, longest, 1) 1 where a slot holds a token, else 0; in the dtype of the products, as is the mask.
        mask_r11tk: (rows, 1, 1, longest, shared + longest) 0 where a token may look, else very negative.
        children_pr: (parents, rows) 1 where a row continues a parent.
        shared: tokens of each parent.
    """

    slots_rt: torch.Tensor
    key_slots_rk: torch.Tensor
    used_n: torch.Tensor
    is_used_rt1: torch.Tensor
    mask_r11tk: torch.Tensor
    children_pr: torch.Tensor
    shared: int


def attend_packed_rows(
    module: torch.nn.Module,
    query_1hnd: torch.Tensor,
    key_1gnd: torch.Tensor,
    value_1gnd: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    layout: RowLayout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within rows; `g` key and value heads of width `d` are shared by groups of the `h` query heads.

    Without a layout the library's attention answers, for rows that are padded on the right.

    Returns:
        (1, n, h, d), and no weights.
    """
    if layout is None:
        return sdpa_attention_forward(
            module, query_1hnd, key_1gnd, value_1gnd, attention_mask, scaling=scaling, **others
        )
    heads, count, width = query_1hnd.shape[1:]
    groups = key_1gnd.shape[1]
    shared_by = heads // groups
    rows, longest = layout.slots_rt.shape
    key_count = layout.shared + longest
    scale = width**-0.5 if scaling is None else scaling

    query_nc = (query_1hnd[0] * scale).transpose(0, 1).reshape(count, heads * width)
    key_nc, value_nc = (block[0].transpose(0, 1).reshape(count, groups * width) for block in (key_1gnd, value_1gnd))
    query = _Unpack.apply(query_nc, layout).view(rows, longest, groups, shared_by, width)
    query = query.permute(0, 2, 3, 1, 4).reshape(rows, groups, shared_by * longest, width)
    key = _UnpackKeys.apply(key_nc, layout).view(rows, key_count, groups, width).permute(0, 2, 3, 1)
    value = _UnpackKeys.apply(value_nc, layout).view(rows, key_count, groups, width).transpose(1, 2)

    scores = (query @ key).view(rows, groups, shared_by, longest, key_count) + layout.mask_r11tk
    weights = torch.softmax(scores, dim=-1).view(rows, groups, shared_by * longest, key_count)
    mixed = (weights @ value).view(rows, groups, shared_by, longest, width)
    mixed_rtc = mixed.permute(0, 3, 1, 2, 4).reshape(rows, longest, heads * width)
    return _Pack.apply(mixed_rtc, layout).view(1, count, heads, width), None


class _Unpack(torch.autograd.Function):
    """(n, c) -> (rows, longest, c). Unused slots hold a token that nothing looks at, so their gradient is left out."""

    @staticmethod
    def forward(ctx: Any, flat_nc: torch.Tensor, layout: RowLayout) -> torch.Tensor:
        ctx.layout = layout
        return flat_nc.index_select(0, layout.slots_rt.flatten()).view(*layout.slots_rt.shape, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0].flatten(0, 1).index_select(0, ctx.layout.used_n), None


class _UnpackKeys(torch.autograd.Function):
    """(n, c) -> (rows, shared + longest, c): a parent's tokens, then the own; a parent's gradient is its children's sum."""

    @staticmethod
    def forward(ctx: Any, flat_nc: torch.Tensor, layout: RowLayout) -> torch.Tensor:
        ctx.layout = layout
        return flat_nc.index_select(0, layout.key_slots_rk.flatten()).view(*layout.key_slots_rk.shape, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        layout, gradient_rkc = ctx.layout, gradients[0]
        gradient_nc = gradient_rkc[:, layout.shared :].flatten(0, 1).index_select(0, layout.used_n)
        if layout.shared:
            of_parents = layout.children_pr @ gradient_rkc[:, : layout.shared].flatten(1)
            gradient_nc[: of_parents.numel() // gradient_nc.shape[1]] += of_parents.view(-1, gradient_nc.shape[1])
        return gradient_nc, None


class _Pack(torch.autograd.Function):
    """(rows, longest, c) -> (n, c)."""

    @staticmethod
    def forward(ctx: Any, padded_rtc: torch.Tensor, layout: RowLayout) -> torch.Tensor:
        ctx.layout = layout
        return padded_rtc.flatten(0, 1).index_select(0, layout.used_n)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        slots = ctx.layout.slots_rt
        padded = gradients[0].index_select(0, slots.flatten()).view(*slots.shape, -1)
        return padded * ctx.layout.is_used_rt1, None


def suits(config: Any, sequence_length: int, device: str) -> bool:
    """Whether rows of this length on this device are faster with `packed_rows`, and the architecture allows it."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return (
        device == "cpu"
        and sequence_length <= LONGEST_ROW
        and config.get_text_config().model_type in PLAIN_ARCHITECTURES
        and (window is None or window >= sequence_length)
    )


ALL_ATTENTION_FUNCTIONS.register(NAME, attend_packed_rows)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *_, **__: None)
