"""Cross-entropy over answer tokens only: prompt and padding never reach the output head.

The head's product is cut into chunks, and the gradients of hidden states and head are formed while the logits are there, so that
logits are never kept for the backward pass. The chunks use the same block of memory again and again: it is by far the largest of a
step, and would otherwise leave holes in which nothing else fits. A CPU works on a few rows of a chunk at a time, which stay in its cache.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

CHUNK_TOKENS = 2048  # at most; a chunk more costs a sum in fp32 of the head's gradient
CHUNK_LOGITS = 1 << 27  # 256 MiB in bf16, with which 512 tokens of a vocabulary of 262,144 are one chunk
LOGITS_AT_ONCE = {"cpu": 1 << 20}  # in fp32: 4 MiB, which stay in a CPU's cache
MOST_LOGITS_AT_ONCE = 1 << 25


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
        products = _scratch(hidden_nd.dtype, len(head_vd), str(hidden_nd.device))
        for start in range(0, len(targets_n), len(products)):
            chunk = slice(start, start + len(products))
            hidden, targets = hidden_nd[chunk], targets_n[chunk, None]
            slopes = torch.mm(hidden, head_vd.T, out=products[: len(targets)])
            at_once = max(1, LOGITS_AT_ONCE.get(hidden.device.type, MOST_LOGITS_AT_ONCE) // len(head_vd))
            for rows, own in zip(slopes.split(at_once), targets.split(at_once), strict=True):
                total -= _log_probabilities(rows, own, softcap, divisor if any(ctx.needs_input_grad[:2]) else None)
            if hidden_grad is not None:
                hidden_grad[chunk] = slopes @ head_vd
            if ctx.needs_input_grad[1]:
                product = slopes.T @ hidden
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


def _log_probabilities(
    products_rv: torch.Tensor, targets_r1: torch.Tensor, softcap: float | None, divisor: float | None
) -> torch.Tensor:
    """The sum of the targets' log-probabilities; the products become the gradient of its negative, divided by `divisor` if any."""
    logits = products_rv.float()
    if softcap is not None:
        logits = (logits / softcap).tanh_().mul_(softcap)
    log_probabilities = torch.log_softmax(logits, -1)
    total = log_probabilities.gather(1, targets_r1).sum()
    if divisor is None:
        return total
    slope = log_probabilities.exp_()
    slope.scatter_add_(1, targets_r1, torch.full_like(targets_r1, -1, dtype=torch.float32))
    if softcap is not None:
        slope.mul_(1 - (logits / softcap) ** 2)
    products_rv.copy_(slope.div_(divisor))
    return total


@functools.lru_cache(maxsize=4)
def _scratch(dtype: torch.dtype, vocabulary: int, device: str) -> torch.Tensor:
    """(tokens of a chunk, vocabulary), of any content."""
    return torch.empty(max(1, min(CHUNK_TOKENS, CHUNK_LOGITS // vocabulary)), vocabulary, dtype=dtype, device=device)


@torch.no_grad()
def count_right(hidden_nd: torch.Tensor, head_vd: torch.Tensor, targets_n: torch.Tensor) -> int:
    """How many targets are the most probable token."""
    right = 0
    for start in range(0, len(targets_n), CHUNK_TOKENS):
        chunk = slice(start, start + CHUNK_TOKENS)
        right += int(((hidden_nd[chunk] @ head_vd.T).argmax(-1) == targets_n[chunk]).sum())
    return right
