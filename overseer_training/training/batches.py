"""Which examples each step learns from, and in which micro-batches. Order is data: a function of seed and epoch alone."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from overseer_training.data.tokenize import IGNORED, TokenSet
from overseer_training.training.layout import padded_length

ORDER = 2  # which order of rows this is; a checkpoint that was made in another one is refused
PARTS = 32  # of an epoch; chosen: a family has about twice as many rows


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many steps there are and which rows each one has.

    Attributes:
        rows: training rows of an epoch.
        batch_size: rows of a step; the last step of an epoch may have fewer.
    """

    rows: int
    batch_size: int
    epochs: int
    max_steps: int | None
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    @property
    def total_steps(self) -> int:
        configured = self.steps_per_epoch * self.epochs
        return configured if self.max_steps is None else min(configured, self.max_steps)

    def rows_of_step(self, step: int) -> list[int]:
        """Row numbers of step `step`, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _order_of_epoch(self.seed, epoch, self.rows)
        return [int(row) for row in order[position * self.batch_size : (position + 1) * self.batch_size]]


@functools.lru_cache(maxsize=1)  # of ten million rows it takes about a second
def _order_of_epoch(seed: int, epoch: int, rows: int) -> npt.NDArray[np.int64]:
    """Each part of an epoch has its share of what stands together in the file: a family, a skill. Few runs see a whole one.

    Of `PARTS` rows in a row each part gets one, and goes through its own in an order of its own.
    """
    rng = np.random.default_rng([seed, epoch])
    table = np.arange(-(-rows // PARTS) * PARTS).reshape(-1, PARTS)
    parts = rng.permuted(rng.permuted(table, axis=1), axis=0).T.ravel()
    return parts[parts < rows]


def share_of(rows: Sequence[int], lengths: Sequence[int], rank: int, size: int) -> list[int]:
    """The rows of process `rank` of `size`: each row is one process's, and all have about as many tokens; longest rows first."""
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    turns = [*range(size), *reversed(range(size))]  # dealt there and back, so that nobody always gets the longer row
    return [row for position, row in enumerate(ordered) if turns[position % len(turns)] == rank]


def split_by_tokens(
    rows: Sequence[int], lengths: Sequence[int], token_budget: int, *, are_packed: bool = False
) -> list[list[int]]:
    """As few micro-batches as `token_budget` tokens in each allow (or one row), of similar sizes; longest rows first.

    Args:
        are_packed: rows are filled up to rows of similar length only, and not to the longest of their micro-batch.
    """
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    widths = [padded_length(lengths[row]) for row in ordered]
    count = max(1, math.ceil(sum(widths) / token_budget))
    limit = min(token_budget, sum(widths) / count + max(widths, default=0))  # an even share, and room for one more row
    batches: list[list[int]] = []
    width = held = 0
    for row, own in zip(ordered, widths, strict=True):
        held += own if are_packed else width
        if batches and held <= limit:
            batches[-1].append(row)
        else:
            batches.append([row])
            width = held = own
    return batches


def answer_tokens(tokens: TokenSet, rows: Sequence[int]) -> int:
    """How many labelled tokens the rows have."""
    return sum(int((tokens.labels[tokens.starts[row] : tokens.starts[row + 1]] != IGNORED).sum()) for row in rows)


def evaluation_batches(tokens: TokenSet, token_budget: int) -> Iterator[list[int]]:
    """All rows, in micro-batches."""
    yield from split_by_tokens(range(len(tokens)), tokens.lengths.tolist(), token_budget)
