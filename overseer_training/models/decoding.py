"""Decodes a batch token by token, and computes only what is still wanted.

Takes prompts as token ids; gives answers as token ids. Rows that have ended leave the batch, with their keys and values, as soon
as half of it has: answers differ in length, and the longest would otherwise keep all others computing. Greedy or sampled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: after `temperature`, from the likeliest ones whose probabilities add up to `top_p`.

    The same seed, conversations and batch size give the same answers on the same machine.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise ValueError("a temperature above 0 and a top_p above 0 and up to 1 are needed")


def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    random_numbers: torch.Generator | None = None,
) -> list[list[int]]:
    """The answer to each prompt, with the token that ended it where one did.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        sampling: None takes the likeliest token each time; else `random_numbers` decide.
    """
    import torch

    longest = max(len(prompt) for prompt in prompts)
    device = model.device
    ids_bt = torch.tensor([[pad_id] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask_bt = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    positions_bt = (mask_bt.cumsum(1) - 1).clamp(min=0)
    answers: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    wanted = [True] * len(prompts)
    cache = None
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            output = model(
                input_ids=ids_bt,
                attention_mask=mask_bt,
                position_ids=positions_bt,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen_b = _choose(output.logits[:, -1], sampling, random_numbers)
            for prompt, token in zip(active, chosen_b.tolist(), strict=True):
                if wanted[prompt]:
                    answers[prompt].append(token)
                    wanted[prompt] = token not in stop_ids
            kept = [row for row, prompt in enumerate(active) if wanted[prompt]]
            if not kept:
                break
            ids_bt, positions_bt = chosen_b[:, None], positions_bt[:, -1:] + 1
            mask_bt = torch.cat([mask_bt, mask_bt.new_ones(len(active), 1)], 1)
            if 2 * len(kept) <= len(active):
                rows = torch.tensor(kept, device=device)
                ids_bt, positions_bt, mask_bt = ids_bt[rows], positions_bt[rows], mask_bt[rows]
                cache.batch_select_indices(rows)
                active = [active[row] for row in kept]
    return answers


def _choose(logits_bv: torch.Tensor, sampling: Sampling | None, random_numbers: torch.Generator | None) -> torch.Tensor:
    """Token ids (b,)."""
    import torch

    if sampling is None:
        return logits_bv.argmax(-1)
    probabilities_bv = (logits_bv.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        sorted_bv, order_bv = probabilities_bv.sort(-1, descending=True)
        sorted_bv[sorted_bv.cumsum(-1) - sorted_bv >= sampling.top_p] = 0  # the likeliest always stays
        chosen_b1 = torch.multinomial(sorted_bv, 1, generator=random_numbers)
        return order_bv.gather(-1, chosen_b1)[:, 0]
    return torch.multinomial(probabilities_bv, 1, generator=random_numbers)[:, 0]
