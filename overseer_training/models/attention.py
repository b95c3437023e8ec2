"""Attention for short rows as plain batched matrix products.

On a CPU the fused kernel's backward pass is costly for short rows; at 32 rows of 64 tokens plain products were faster (seen on a
busy machine, so without a figure).
Rows are padded on the right, so a causal mask alone keeps padding out of every real position. Registered under the name
`short_rows` with transformers; used only for architectures whose layers all attend causally to the whole row.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "short_rows"
LONGEST_ROW = 256  # chosen: the squares of scores stay small
PLAIN_ARCHITECTURES = {"llama", "qwen2", "smollm3", "mistral"}


def attend_short_rows(
    module: torch.nn.Module,
    query_bhtd: torch.Tensor,
    key_bgtd: torch.Tensor,
    value_bgtd: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention; shapes are (batch, heads, time, width) with `g` key and value heads shared by groups of query heads.

    Returns:
        (batch, time, heads, width), and no weights.
    """
    batch, heads, time, width = query_bhtd.shape
    groups, key_time = key_bgtd.shape[1], key_bgtd.shape[2]
    scale = width**-0.5 if scaling is None else scaling
    query = (query_bhtd * scale).reshape(batch, groups, heads // groups * time, width)
    scores = (query @ key_bgtd.transpose(2, 3)).view(batch, groups, heads // groups, time, key_time)
    scores = scores + _causal_mask(time, key_time, scores.dtype, scores.device)
    weights = torch.softmax(scores, dim=-1).view(batch, groups, heads // groups * time, key_time)
    return (weights @ value_bgtd).view(batch, heads, time, width).transpose(1, 2).contiguous(), None


@functools.lru_cache(maxsize=32)
def _causal_mask(time: int, key_time: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    mask = torch.full((time, key_time), torch.finfo(dtype).min, dtype=dtype, device=device)
    return mask.triu(1 + key_time - time)


def suits(config: Any, sequence_length: int, device: str) -> bool:
    """Whether rows of this length on this device are faster with `short_rows`, and the architecture allows it."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return (
        device == "cpu"
        and sequence_length <= LONGEST_ROW
        and config.model_type in PLAIN_ARCHITECTURES
        and (window is None or window >= sequence_length)
    )


ALL_ATTENTION_FUNCTIONS.register(NAME, attend_short_rows)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *_, **__: None)
