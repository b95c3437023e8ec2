"""Where the rows of a packed sequence are in the blocks that attention works on; see `models/attention.py`.

Takes the lengths of rows that lie one after another, and which of them continue another one; gives a `RowLayout`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from overseer_training.models.attention import RowBlock, RowLayout

LENGTH_MULTIPLE = 8  # padded lengths are few, so that kernels and allocators see few shapes
SLOT_MULTIPLE = 512  # of heads in all blocks, for the same reason
SCORE_MULTIPLE = 1 << 16
SIMILAR = 0.65  # of the longest row of a block; shorter ones begin a new block (chosen: a block costs about ten operations a layer)
BLOCKED = -1e4  # added to scores that must not count; far below any score, and exact enough in bf16
UNUSED = -1  # a place of a block that holds no token

Numbers = npt.NDArray[np.int64]


def padded_length(length: int) -> int:
    """The next multiple that rows are filled up to."""
    return _multiple(length, LENGTH_MULTIPLE)


def _multiple(count: int, of: int) -> int:
    return math.ceil(count / of) * of


def _filled_up(slots: Numbers) -> Numbers:
    return np.pad(slots, (0, _multiple(len(slots), SLOT_MULTIPLE) - len(slots)), constant_values=UNUSED)


def make_layout(
    lengths: Numbers,
    parents: Sequence[int | None],
    kinds: int,
    shared: int,
    heads: tuple[int, int],
    dtype: torch.dtype,
    device: str,
) -> RowLayout:
    """The layout of rows that lie one after another.

    Args:
        lengths: (rows,) tokens of each row; the first `kinds` rows are shared starts of `shared` tokens.
        parents: for each row the shared start that it continues, or None.
        heads: of queries, and of keys and values.
        dtype: of the products.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)])
    blocks: list[RowBlock] = []
    query_slots: list[Numbers] = []
    key_slots: list[Numbers] = []
    queries, keys = (np.zeros(starts[-1] * count, np.int64) for count in heads)
    query_count = key_count = score_count = 0
    for rows in _similar_rows(lengths):
        token = np.arange(padded_length(int(lengths[rows[0]])))
        own_rt = np.where(token < lengths[rows, None], starts[rows, None] + token, UNUSED)
        parents_rs = np.full((len(rows), shared), UNUSED)
        children_pr = np.zeros((kinds, len(rows)), np.float32)
        for position, row in enumerate(rows):
            if (parent := parents[row]) is not None:
                parents_rs[position] = np.arange(starts[parent], starts[parent + 1])
                children_pr[parent, position] = 1
        mask_rtk = np.zeros((len(rows), len(token), shared + len(token)), np.float32)
        mask_rtk[:, :, :shared] = np.where(parents_rs == UNUSED, BLOCKED, 0)[:, None]
        mask_rtk[:, :, shared:] = np.triu(np.full((len(token), len(token)), BLOCKED), 1)

        of_queries = _heads_of(own_rt, heads[0])
        of_keys = _heads_of(np.concatenate([parents_rs, own_rt], 1), heads[1])
        own_keys = _heads_of(np.concatenate([np.full_like(parents_rs, UNUSED), own_rt], 1), heads[1])
        for slots, places, first in ((of_queries, queries, query_count), (own_keys, keys, key_count)):
            used = np.flatnonzero(slots != UNUSED)
            places[slots[used]] = first + used
        scores = len(of_queries) * (shared + len(token))
        blocks.append(
            RowBlock(
                rows=len(rows),
                queries=slice(query_count, query_count + len(of_queries)),
                keys=slice(key_count, key_count + len(of_keys)),
                scores=slice(score_count, score_count + scores),
                mask_r11tk=torch.from_numpy(mask_rtk[:, None, None]).to(device, dtype),
                children_pr=torch.from_numpy(children_pr).to(device, dtype),
            )
        )
        query_slots.append(of_queries)
        key_slots.append(of_keys)
        query_count, key_count = query_count + len(of_queries), key_count + len(of_keys)
        score_count += scores
    all_queries, all_keys = (_filled_up(np.concatenate(slots)) for slots in (query_slots, key_slots))
    return RowLayout(
        blocks=tuple(blocks),
        query_slots=torch.from_numpy(np.maximum(all_queries, 0)).to(device),
        key_slots=torch.from_numpy(np.maximum(all_keys, 0)).to(device),
        queries=torch.from_numpy(queries).to(device),
        keys=torch.from_numpy(keys).to(device),
        unused_queries=torch.from_numpy(np.flatnonzero(all_queries == UNUSED)).to(device),
        scores=_multiple(score_count, SCORE_MULTIPLE),
        shared=shared,
    )


def _similar_rows(lengths: Numbers) -> list[Numbers]:
    """All rows, the longest first, cut where they become shorter than a share of the longest of their block."""
    order = np.argsort(-lengths, kind="stable")
    widths = [padded_length(int(lengths[row])) for row in order]
    cuts = [0]
    for position, width in enumerate(widths):
        if width <= SIMILAR * widths[cuts[-1]]:
            cuts.append(position)
    return [order[first:end] for first, end in zip(cuts, [*cuts[1:], len(order)], strict=True)]


def _heads_of(tokens_rt: Numbers, heads: int) -> Numbers:
    """(rows * heads * tokens,) the head of the sequence at each place: heads are counted token after token."""
    heads_rht = tokens_rt[:, None] * heads + np.arange(heads)[:, None]
    return np.where(tokens_rt[:, None] == UNUSED, UNUSED, heads_rht).reshape(-1)
