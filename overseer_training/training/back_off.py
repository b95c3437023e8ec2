"""Runs micro-batches in ever less memory where it runs short: the rows of a step stay the same, none is lost or repeated.

In this order: free caches; halve the micro-batches; keep fewer activations and compute them again in the backward pass; give up.
Takes rows and a function that learns from some of them. Does not know what a loss or a step is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from overseer_training.config.machine import largest_memory_users
from overseer_training.errors import MemoryLimitError
from overseer_training.training.batches import split_by_tokens
from overseer_training.training.layout import padded_length
from overseer_training.training.memory_guard import MemoryGuard, MemoryReading, free_caches, is_out_of_memory

OUT_OF_MEMORY = "out of memory"
CALM_MICRO_BATCHES = 100  # chosen: freed caches that fill up again within so many are no cure


class BackOff:
    """Hands out micro-batches and makes them smaller when a limit is passed or memory has run out.

    Args:
        guard: says when a limit is passed.
        model: whose activations may be recomputed.
        token_budget: padded tokens that a micro-batch may have.
        notify: is told what was done, in one line.

    Attributes:
        recomputes: whether activations are recomputed; costs about a third more time and changes no number.
    """

    def __init__(self, guard: MemoryGuard, model: Any, token_budget: int, notify: Callable[[str], None]) -> None:
        self.guard, self.token_budget = guard, token_budget
        self.recomputes = False
        self._model, self._notify = model, notify
        self._calm = CALM_MICRO_BATCHES  # micro-batches since caches were freed
        self._largest = 0  # padded tokens of the largest micro-batch of several rows since the last halving

    def run(
        self,
        waiting: Sequence[Sequence[int]],
        lengths: Sequence[int],
        work: Callable[[list[int]], object],
        is_asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> MemoryReading:
        """Call `work` with the waiting micro-batches one after another; ends early where a stop is asked for.

        Args:
            waiting: row numbers, by micro-batch.
            lengths: tokens of every row.

        Returns:
            The last reading of memory.

        Raises:
            MemoryLimitError: nothing is left to try.
        """
        batches = [list(batch) for batch in waiting]
        reading = self.guard.read()
        while batches and not is_asked_to_stop():
            reading = self.guard.read()
            problem = self.guard.problem(reading) or _attempt(work, batches[0])
            if problem:
                batches = self._relieve(batches, lengths, problem)
            else:
                self._largest = max(self._largest, _divisible_tokens(batches[0], lengths))
                batches = batches[1:]
                self._calm += 1
        return reading

    def recompute(self) -> bool:
        """Keep only what enters each layer, and compute the rest again in the backward pass; False where a model cannot."""
        try:
            self._model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        except (ValueError, AttributeError):  # transformers has no such form of this architecture
            return False
        self.recomputes = True
        return True

    def _relieve(self, batches: list[list[int]], lengths: Sequence[int], problem: str) -> list[list[int]]:
        """The same rows, so that they need less memory than before."""
        free_caches(self.guard.device)
        was_calm, self._calm = self._calm >= CALM_MICRO_BATCHES, 0
        is_over = problem == OUT_OF_MEMORY or bool(self.guard.problem(self.guard.read()))
        if was_calm and not is_over:
            return batches
        largest = max(self._largest, *(_divisible_tokens(batch, lengths) for batch in batches))
        if largest:
            self.token_budget, self._largest = max(1, min(self.token_budget, largest) // 2), 0
            self._notify(f"{problem}: micro-batches of at most {self.token_budget} tokens from here on")
            return split_by_tokens([row for batch in batches for row in batch], lengths, self.token_budget)
        if not self.recomputes and self.recompute():
            self._notify(
                f"{problem}: activations are computed twice from here on, which needs less memory and more time"
            )
            return batches
        if not is_over:
            return batches
        users = f" (most is used by {', '.join(largest_memory_users())})" if problem.startswith("RAM") else ""
        raise MemoryLimitError(
            f"{problem} with one row at a time{users}; close programs or raise --ram-limit, or start a new run with a "
            "shorter --sequence-length, a smaller --base-model or --method lora"
        )


def _divisible_tokens(rows: Sequence[int], lengths: Sequence[int]) -> int:
    """Padded tokens of a micro-batch; 0 for a single row, which cannot be divided."""
    return len(rows) * padded_length(max(lengths[row] for row in rows)) if len(rows) > 1 else 0


def _attempt(work: Callable[[list[int]], object], rows: list[int]) -> str:
    """`OUT_OF_MEMORY` where `work` ran out of it, else nothing. Leaving this function frees what the error held."""
    try:
        work(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return OUT_OF_MEMORY
    return ""
