from __future__ import annotations

import pytest
import torch

from overseer_training.training.loss import CHUNK_TOKENS, answer_loss, count_right


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("count", [3, CHUNK_TOKENS + 7])
def test_loss_and_both_gradients_equal_torch(softcap: float | None, count: int) -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(count, 16, requires_grad=True), torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 40, (count,))
    logits = hidden @ head.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    expected = 3 * torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / 7
    expected_gradients = torch.autograd.grad(expected, (hidden, head))
    found = 3 * answer_loss(hidden, head, targets, softcap, divisor=7)
    found_gradients = torch.autograd.grad(found, (hidden, head))
    torch.testing.assert_close(found, expected)
    for left, right in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head = torch.randn(4, 8, requires_grad=True), torch.randn(10, 8)
    answer_loss(hidden, head, torch.tensor([1, 2, 3, 4])).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert head.grad is None


def test_right_tokens_are_counted() -> None:
    head = torch.eye(4)
    assert count_right(head[[0, 1, 2]], head, torch.tensor([0, 1, 3])) == 2
