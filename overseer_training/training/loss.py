"""Cross-entropy over answer tokens only: prompt and padding never reach the output head.

The head's product is cut into chunks, and the gradients of hidden states and head are formed while the logits are there, so that
logits are never kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch

from overseer_training.data.tokenize import IGNORED
from overseer_training.errors import DataError

CHUNK_TOKENS = 512  # chosen: 100 MB of fp32 logits at 49,152 tokens of vocabulary


class EmptyBatchError(DataError):
    """Every label is IGNORED."""


def select_answers(hidden_btd: torch.Tensor, labels_bt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states that predict an answer token (n, width), and those tokens (n,).

    Raises:
        EmptyBatchError: there is none.
    """
    targets_bt = labels_bt[:, 1:]
    chosen_bt = targets_bt != IGNORED
    if not bool(chosen_bt.any()):
        raise EmptyBatchError("a batch without a single answer token reached the loss")
    return hidden_btd[:, :-1][chosen_bt], targets_bt[chosen_bt]


def answer_loss(
    hidden_nd: torch.Tensor, head_vd: torch.Tensor, targets_n: torch.Tensor, softcap: float | None = None
) -> torch.Tensor:
    """Summed cross-entropy of `targets_n`, in nats.

    Args:
        hidden_nd: (n, width) hidden states that predict the targets, bf16 or fp32.
        head_vd: (vocabulary, width) output embedding.
        targets_n: (n,) int64 token ids.
        softcap: logits become softcap * tanh(logits / softcap), as Gemma does.
    """
    loss: torch.Tensor = _ChunkedLoss.apply(hidden_nd, head_vd, targets_n, softcap)
    return loss


class _ChunkedLoss(torch.autograd.Function):
    """Forms both gradients in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden_nd: torch.Tensor, head_vd: torch.Tensor, targets_n: torch.Tensor, softcap: float | None
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_nd.device)
        hidden_grad = torch.empty_like(hidden_nd) if ctx.needs_input_grad[0] else None
        head_grad = torch.zeros_like(head_vd, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets_n), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            hidden, targets = hidden_nd[chunk], targets_n[chunk]
            logits = (hidden @ head_vd.T).float()
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            log_normalizer = torch.logsumexp(logits, dim=-1)
            total += (log_normalizer - logits.gather(1, targets[:, None])[:, 0]).sum()
            if hidden_grad is None and head_grad is None:
                continue
            slope = torch.exp(logits - log_normalizer[:, None])
            slope[torch.arange(len(targets), device=slope.device), targets] -= 1
            if softcap is not None:
                slope *= 1 - (logits / softcap) ** 2
            slope = slope.to(hidden_nd.dtype)
            if hidden_grad is not None:
                hidden_grad[chunk] = slope @ head_vd
            if head_grad is not None:
                head_grad += slope.T @ hidden
        ctx.hidden_grad, ctx.head_grad, ctx.head_dtype = hidden_grad, head_grad, head_vd.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        scale = upstream[0]
        hidden = ctx.hidden_grad * scale if ctx.hidden_grad is not None else None
        head = (ctx.head_grad * scale).to(ctx.head_dtype) if ctx.head_grad is not None else None
        ctx.hidden_grad = ctx.head_grad = None
        return hidden, head, None, None


@torch.no_grad()
def count_right(hidden_nd: torch.Tensor, head_vd: torch.Tensor, targets_n: torch.Tensor) -> int:
    """How many targets are the most probable token."""
    right = 0
    for start in range(0, len(targets_n), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        right += int(((hidden_nd[chunk] @ head_vd.T).argmax(-1) == targets_n[chunk]).sum())
    return right
