"""Causal attention over rows that lie one after another in one sequence, without padding between them.

Every other operation of a decoder looks at one token at a time, so a micro-batch can be one sequence of all its rows. Only here do
rows become padded blocks, each of rows of similar length, as plain batched matrix products: for short rows they are faster on a CPU
than the fused kernel. A row may continue another one: its tokens attend to the parent's first. So the start that many rows share is
computed once. Registered under the name `packed_rows` with transformers; used only for architectures whose layers all attend
causally to the whole row.
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
class RowBlock:
    """Rows of similar length, padded to `longest` tokens.

    Attributes:
        queries, keys, scores: its places among those of all blocks.
        mask_r11tk: (rows, 1, 1, longest, shared + longest) 0 where a token may look, else very negative; in the dtype of the products.
        children_pr: (parents, rows) 1 where a row continues a parent; in the same dtype.
    """

    rows: int
    queries: slice
    keys: slice
    scores: slice
    mask_r11tk: torch.Tensor
    children_pr: torch.Tensor


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """Where each head of each token of a sequence is in the blocks, and back. The sequence begins with the shared starts.

    Heads of a sequence are counted token after token. In a block, queries are ordered by row, head and token, and keys by row, head
    and token, of which the first `shared` are the parent's.

    Attributes:
        query_slots, key_slots: int64, for each query and key of the blocks, the head of the sequence that it is; 0 where it is none.
        scores: how many scores there is room for, of all blocks together.
        queries, keys: int64, for each head of the sequence, its place in the blocks.
        unused_queries: int64, those of the blocks that are no head of the sequence.
        shared: tokens of each parent.
    """

    blocks: tuple[RowBlock, ...]
    query_slots: torch.Tensor
    key_slots: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    unused_queries: torch.Tensor
    scores: int
    shared: int


def attend(
    query_nhd: torch.Tensor,
    key_ngd: torch.Tensor,
    value_ngd: torch.Tensor,
    rotation: tuple[torch.Tensor, torch.Tensor] | None,
    scale: float,
    layout: RowLayout,
) -> torch.Tensor:
    """Attention within rows; `g` heads of keys and values of width `d` are shared by groups of the `h` query heads.

    Args:
        rotation: cosines and sines (n, d) of the tokens' positions; None where queries and keys are rotated already.

    Returns:
        (n, h * d).
    """
    cosine, sine = rotation or (None, None)
    mixed: torch.Tensor = _Attend.apply(query_nhd, key_ngd, value_ngd, cosine, sine, scale, layout)
    return mixed


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
    """The same in the library's form; without a layout the library's attention answers, for rows that are padded on the right.

    Returns:
        (1, n, h, d), and no weights.
    """
    if layout is None:
        return sdpa_attention_forward(
            module, query_1hnd, key_1gnd, value_1gnd, attention_mask, scaling=scaling, **others
        )
    query, key, value = (block[0].transpose(0, 1).contiguous() for block in (query_1hnd, key_1gnd, value_1gnd))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, None, scale, layout).view(1, *query.shape), None


class _Attend(torch.autograd.Function):
    """Rotates, gathers heads into blocks, attends, and gathers back; the backward pass is written out to keep and copy little."""

    @staticmethod
    def forward(
        ctx: Any,
        query_nhd: torch.Tensor,
        key_ngd: torch.Tensor,
        value_ngd: torch.Tensor,
        cosine: torch.Tensor | None,
        sine: torch.Tensor | None,
        scale: float,
        layout: RowLayout,
    ) -> torch.Tensor:
        width = query_nhd.shape[-1]
        if cosine is not None and sine is not None:
            query_nhd, key_ngd = (_rotate(heads, cosine, sine) for heads in (query_nhd, key_ngd))
        query = query_nhd.reshape(-1, width).index_select(0, layout.query_slots).mul_(scale)
        key, value = (heads.reshape(-1, width).index_select(0, layout.key_slots) for heads in (key_ngd, value_ngd))
        mixed, all_weights = torch.empty_like(query), query.new_empty(layout.scores)
        groups = key_ngd.shape[1]
        for block in layout.blocks:
            queries, mixes = _parts(block.rows * groups, block.queries, query, mixed)
            keys, values = _parts(block.rows * groups, block.keys, key, value)
            weights = all_weights[block.scores].view(len(queries), -1, keys.shape[1])
            torch.bmm(queries, keys.mT, out=weights)
            weights.view(block.rows, groups, -1, *block.mask_r11tk.shape[-2:]).add_(block.mask_r11tk)
            torch.softmax(weights, -1, out=weights)
            torch.bmm(weights, values, out=mixes)
        ctx.save_for_backward(query, key, value, cosine, sine, all_weights)
        ctx.scale, ctx.layout, ctx.heads, ctx.groups = scale, layout, query_nhd.shape[1], groups
        return mixed.index_select(0, layout.queries).view(len(query_nhd), -1)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, cosine, sine, all_weights = ctx.saved_tensors
        layout, groups, width = ctx.layout, ctx.groups, query.shape[-1]
        slope = upstream[0].reshape(-1, width).index_select(0, layout.query_slots)
        slope.index_fill_(0, layout.unused_queries, 0)
        query_slope, key_slope, value_slope = (torch.empty_like(block) for block in (query, key, value))
        all_scores = torch.empty_like(all_weights)
        for block in layout.blocks:
            batch = block.rows * groups
            queries, slopes, to_queries = _parts(batch, block.queries, query, slope, query_slope)
            keys, values, to_keys, to_values = _parts(batch, block.keys, key, value, key_slope, value_slope)
            weights, scores = (flat[block.scores].view(batch, -1, keys.shape[1]) for flat in (all_weights, all_scores))
            torch.bmm(weights.mT, slopes, out=to_values)
            torch.bmm(slopes, values.mT, out=scores)
            torch.ops.aten._softmax_backward_data.out(scores, weights, -1, weights.dtype, grad_input=scores)
            torch.bmm(scores, keys, out=to_queries)
            torch.bmm(scores.mT, queries, out=to_keys)
        query_nhd = query_slope.index_select(0, layout.queries).mul_(ctx.scale).view(-1, ctx.heads, width)
        key_ngd, value_ngd = (_to_sequence(block, layout, groups) for block in (key_slope, value_slope))
        if cosine is not None:  # the transpose of a rotation is the one by the opposite angle
            query_nhd, key_ngd = (_rotate(heads, cosine, sine.neg()) for heads in (query_nhd, key_ngd))
        return query_nhd, key_ngd, value_ngd, None, None, None, None


def _rotate(heads_nhd: torch.Tensor, cosine_nd: torch.Tensor, sine_nd: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding: the halves of a head's width are the two coordinates of each plane.

    Source: Su et al., "RoFormer", 2021; the order of coordinates is the library's, in which both halves have the same angles.
    """
    cosine, sine = cosine_nd[:, None], sine_nd[:, None]
    half = heads_nhd.shape[-1] // 2
    rotated = heads_nhd * cosine
    rotated[..., :half].addcmul_(heads_nhd[..., half:], sine[..., :half], value=-1)
    rotated[..., half:].addcmul_(heads_nhd[..., :half], sine[..., half:])
    return rotated


def _parts(batch: int, places: slice, *of_heads: torch.Tensor) -> list[torch.Tensor]:
    """(batch, tokens, width) views of what (heads, width) tensors hold at `places`."""
    return [heads[places].view(batch, -1, heads.shape[-1]) for heads in of_heads]


def _to_sequence(slope: torch.Tensor, layout: RowLayout, groups: int) -> torch.Tensor:
    """(n, groups, width) gradients of keys or values of the sequence; a parent's are the sum of its children's."""
    width = slope.shape[-1]
    sequence = slope.index_select(0, layout.keys).view(-1, groups, width)
    if not layout.shared:
        return sequence
    for block in layout.blocks:
        own = slope[block.keys].view(block.rows, groups, -1, width)[:, :, : layout.shared]
        of_parents = (block.children_pr @ own.flatten(1)).view(-1, groups, layout.shared, width).transpose(1, 2)
        sequence[: of_parents.shape[0] * layout.shared] += of_parents.flatten(0, 1)
    return sequence


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
