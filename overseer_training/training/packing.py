"""Rows become the tensors of a micro-batch: packed into one sequence, or padded to one width where attention needs that.

Takes a `TokenSet` and row numbers; gives a `Batch`. In both forms the answers are the same, and so is the loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from overseer_training.data.tokenize import IGNORED, TokenSet
from overseer_training.errors import DataError
from overseer_training.models.attention import NAME as PACKED_ROWS
from overseer_training.training.layout import make_layout, padded_length

MOST_FILLER = (
    1 / 16
)  # of a packed micro-batch, for a multiple of tokens: few sizes, of which freed ones fit again (docs/performance.md)
LARGEST_MULTIPLE = 64
SAME_START = 6  # tokens; rows that agree in them are looked at for a shared start (chosen: the head of a chat template)

Tokens = npt.NDArray[np.int32]


class EmptyBatchError(DataError):
    """Every label is IGNORED."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a decoder is called with, and what it must predict.

    Attributes:
        inputs: keyword arguments of the decoder.
        predicting_n: (n,) int64 positions, in its flattened hidden states, that predict an answer token.
        targets_n: (n,) int64 those tokens, row after row.
        counts: how many of them each row has, in the order in which the rows came.
    """

    inputs: dict[str, Any]
    predicting_n: torch.Tensor
    targets_n: torch.Tensor
    counts: tuple[int, ...]


def make_batch(tokens: TokenSet, rows: Sequence[int], model_config: Any, dtype: torch.dtype, device: str) -> Batch:
    """The batch in the form that the model's attention takes.

    Raises:
        EmptyBatchError: no row has an answer token.
    """
    if is_packed(model_config):
        heads = model_config.num_attention_heads, model_config.num_key_value_heads
        return pack_rows(tokens, rows, heads, dtype, device)
    return pad_rows(tokens, rows, device)


def is_packed(model_config: Any) -> bool:
    """Whether the model's attention takes packed rows."""
    return bool(model_config._attn_implementation == PACKED_ROWS)


def pad_rows(tokens: TokenSet, rows: Sequence[int], device: str) -> Batch:
    """Rows below each other, filled up on the right, where no token of a causal model looks."""
    width = padded_length(max(len(_part(tokens.ids, tokens, row)) for row in rows))
    ids_bt = np.zeros((len(rows), width), np.int64)
    starts = []
    for position, row in enumerate(rows):
        ids = _part(tokens.ids, tokens, row)
        ids_bt[position, : len(ids)] = ids
        starts.append(position * width)
    return _batch({"input_ids": ids_bt}, tokens, rows, starts, device)


def pack_rows(tokens: TokenSet, rows: Sequence[int], heads: tuple[int, int], dtype: torch.dtype, device: str) -> Batch:
    """Rows after each other, starts that several share only once, each row without its last token, which predicts nothing.

    A row that nobody looks at fills up to a multiple of tokens.

    Args:
        heads: of queries, and of keys and values.
    """
    ids = [_part(tokens.ids, tokens, row)[:-1] for row in rows]
    parents, shared = _find_shared_starts(ids, [_answer_start(tokens, row) for row in rows])
    kinds = sorted({parent for parent in parents if parent is not None})
    pieces = [ids[kind][:shared] for kind in kinds]
    pieces += [row if parent is None else row[shared:] for row, parent in zip(ids, parents, strict=True)]
    offsets = [0] * len(kinds) + [0 if parent is None else shared for parent in parents]
    tokens_before = sum(map(len, pieces))
    filler = -tokens_before % _multiple_for(tokens_before)
    if filler:  # a row that nobody looks at
        pieces.append(np.zeros(filler, np.int32))
        offsets.append(0)
    lengths = [len(piece) for piece in pieces]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    parent_of = [None] * len(kinds) + [None if parent is None else kinds.index(parent) for parent in parents]
    parent_of += [None] * (len(pieces) - len(parent_of))
    inputs = {
        "input_ids": np.concatenate(pieces)[None].astype(np.int64),
        "position_ids": np.concatenate(
            [np.arange(offset, offset + length) for offset, length in zip(offsets, lengths, strict=True)]
        )[None],
    }
    row_starts = [int(starts[len(kinds) + row]) - offsets[len(kinds) + row] for row in range(len(rows))]
    batch = _batch(inputs, tokens, rows, row_starts, device)
    batch.inputs["layout"] = make_layout(np.array(lengths), parent_of, len(kinds), shared, heads, dtype, device)
    return batch


def _multiple_for(tokens: int) -> int:
    """A power of two, as large as `MOST_FILLER` allows."""
    return min(LARGEST_MULTIPLE, 1 << max(0, int(tokens * MOST_FILLER).bit_length() - 1))


def _part(values: Tokens, tokens: TokenSet, row: int) -> Tokens:
    part: Tokens = values[tokens.starts[row] : tokens.starts[row + 1]]
    return part


def _answer_start(tokens: TokenSet, row: int) -> int:
    return int(np.argmax(_part(tokens.labels, tokens, row) != IGNORED))


def _batch(
    inputs: dict[str, npt.NDArray[np.int64]], tokens: TokenSet, rows: Sequence[int], starts: Sequence[int], device: str
) -> Batch:
    """The batch of rows whose first token is at `starts` of the flattened hidden states."""
    predicting, targets = [], []
    for row, start in zip(rows, starts, strict=True):
        labels = _part(tokens.labels, tokens, row)
        answers = np.nonzero(labels[1:] != IGNORED)[0]
        predicting.append(answers + start)
        targets.append(labels[1:][answers])
    if not sum(map(len, targets)):
        raise EmptyBatchError("a batch without a single answer token reached the loss")
    return Batch(
        {name: torch.from_numpy(value).to(device) for name, value in inputs.items()},
        torch.from_numpy(np.concatenate(predicting)).to(device),
        torch.from_numpy(np.concatenate(targets).astype(np.int64)).to(device),
        tuple(map(len, targets)),
    )


def _find_shared_starts(ids: Sequence[Tokens], answer_starts: Sequence[int]) -> tuple[list[int | None], int]:
    """For each row the first row that it shares its start with, or None; and how many tokens they share.

    A shared start ends before any token that predicts an answer, and leaves every row a token of its own.
    """
    groups: dict[bytes, list[int]] = {}
    for row, values in enumerate(ids):
        groups.setdefault(values[:SAME_START].tobytes(), []).append(row)
    parents: list[int | None] = [None] * len(ids)
    shared = None
    for group in groups.values():
        limit = min(min(len(ids[row]) - 1, answer_starts[row] - 1) for row in group)
        if len(group) == 1 or limit < SAME_START:
            continue
        first = ids[group[0]]
        same = min(_agreeing(first[:limit], ids[row][:limit]) for row in group)
        shared = same if shared is None else min(shared, same)
        for row in group:
            parents[row] = group[0]
    return parents, shared or 0


def _agreeing(left: Tokens, right: Tokens) -> int:
    differing = np.nonzero(left != right)[0]
    return int(differing[0]) if len(differing) else len(left)
