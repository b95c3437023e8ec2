"""Cross-entropy over answer tokens only: prompt and padding never reach the output head.

The head's product is cut into chunks, and the gradients of hidden states and head are formed while the logits are there, so that
logits are never kept for the backward pass. The chunks use the same two blocks of memory again and again: they are by far the largest
blocks of a step, and would otherwise leave holes in which nothing else fits.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

CHUNK_TOKENS = 512  # chosen: 100 MB of fp32 logits at 49,152 tokens of vocabulary


def answer_loss(
    hidden_nd: torch.Tensor,
    head_vd: torch.Tensor,
    targets_n: torch.Tensor,
    softcap: float | None = None,
    divisor: float = 1.0,
) -> torch.Tensor:
    """Cross-entropy of `targets_n` in nats, summed and divided by `divisor`.

    Args:
        hidden_nd: (n, width) hidden states that predict the targets, bf16 or fp32.
        head_vd: (vocabulary, width) output embedding.
        targets_n: (n,) int64 token ids.
        softcap: logits become softcap * tanh(logits / softcap), as Gemma does.
    """
    loss: torch.Tensor = _ChunkedLoss.apply(hidden_nd, head_vd, targets_n, softcap, divisor)
    return loss


class _ChunkedLoss(torch.autograd.Function):
    """Forms both gradients in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nd: torch.Tensor,
        head_vd: torch.Tensor,
        targets_n: torch.Tensor,
        softcap: float | None,
        divisor: float,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_nd.device)
        hidden_grad = torch.empty_like(hidden_nd) if ctx.needs_input_grad[0] else None
        head_grad: torch.Tensor | None = None
        for start in range(0, len(targets_n), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            hidden, targets = hidden_nd[chunk], targets_n[chunk, None]
            products, logits = (
                _scratch(dtype, len(head_vd), str(hidden.device))[: len(targets)]
                for dtype in (hidden_nd.dtype, torch.float32)
            )
            torch.mm(hidden, head_vd.T, out=products)
            logits.copy_(products)
            if softcap is not None:
                logits.div_(softcap).tanh_().mul_(softcap)
            bend = 1 - (logits / softcap) ** 2 if softcap is not None else None
            log_probabilities = logits.sub_(torch.logsumexp(logits, dim=-1, keepdim=True))
            total -= log_probabilities.gather(1, targets).sum()
            if not any(ctx.needs_input_grad[:2]):
                continue
            slope_fp32 = log_probabilities.exp_()
            slope_fp32.scatter_add_(1, targets, torch.full_like(targets, -1, dtype=torch.float32))
            if bend is not None:
                slope_fp32.mul_(bend)
            slope = products.copy_(slope_fp32.div_(divisor))
            if hidden_grad is not None:
                hidden_grad[chunk] = slope @ head_vd
            if ctx.needs_input_grad[1]:
                product = slope.T @ hidden
                head_grad = product if head_grad is None else head_grad.float().add_(product)  # sums are fp32
        ctx.hidden_grad, ctx.head_grad, ctx.head_dtype = hidden_grad, head_grad, head_vd.dtype
        return total / divisor

    @staticmethod
    def backward(
        ctx: Any, *upstream: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        scale = upstream[0]
        hidden, head = ctx.hidden_grad, ctx.head_grad
        ctx.hidden_grad = ctx.head_grad = None
        if scale.device.type != "cpu" or scale != 1:  # the loss itself was differentiated: nothing to do
            hidden, head = (None if part is None else part.mul_(scale) for part in (hidden, head))
        return hidden, None if head is None else head.to(ctx.head_dtype), None, None, None


@functools.lru_cache(maxsize=4)
def _scratch(dtype: torch.dtype, vocabulary: int, device: str) -> torch.Tensor:
    """(CHUNK_TOKENS, vocabulary), of any content; where all is fp32, products and logits are the same block, which does no harm."""
    return torch.empty(CHUNK_TOKENS, vocabulary, dtype=dtype, device=device)


@torch.no_grad()
def count_right(hidden_nd: torch.Tensor, head_vd: torch.Tensor, targets_n: torch.Tensor) -> int:
    """How many targets are the most probable token."""
    right = 0
    for start in range(0, len(targets_n), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        right += int(((hidden_nd[chunk] @ head_vd.T).argmax(-1) == targets_n[chunk]).sum())
    return right
