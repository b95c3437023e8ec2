from __future__ import annotations

import pytest
import torch

from overseer_training.training import optimizer
from overseer_training.training.optimizer import BETAS, EPSILON, MasterAdamW

DECAY, RATE = 0.1, 0.01


def make_model(dtype: torch.dtype) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4), torch.nn.LayerNorm(4)).to(dtype)


def set_gradients(parameters: list[torch.Tensor], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)


@pytest.mark.parametrize("part", [1, 25, 1 << 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_are_those_of_adamw_however_the_weights_are_parted(
    dtype: torch.dtype, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "PART", part)
    model = make_model(dtype)
    reference = [parameter.detach().float().requires_grad_() for parameter in model.parameters()]
    groups = [
        {"params": [p for p in reference if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in reference if p.dim() <= 1], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPSILON)
    ours = MasterAdamW(model, DECAY)
    for step in range(3):
        set_gradients(ours.parameters, step)
        for copy, parameter in zip(reference, ours.parameters, strict=True):
            copy.grad = parameter.grad.float().clone()
        expected = torch.nn.utils.clip_grad_norm_(reference, 1.0)
        theirs.step()
        ours.add_gradients()
        assert ours.step(RATE, 1.0) == pytest.approx(float(expected), rel=1e-5)
    for copy, master, parameter in zip(reference, ours.masters, ours.parameters, strict=True):
        torch.testing.assert_close(master, copy.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(parameter, master.to(dtype))


def test_gradients_of_several_micro_batches_are_added_in_fp32() -> None:
    model = torch.nn.Linear(1, 1, bias=False).bfloat16()
    ours = MasterAdamW(model, 0.0)
    for gradient in (256.0, 1.0, 1.0):  # in bf16, 256 + 1 is 256
        model.weight.grad = torch.full_like(model.weight, gradient)
        ours.add_gradients()
    assert ours.step(RATE, 1.0) == 258


def test_a_forgotten_step_leaves_nothing_behind() -> None:
    model = make_model(torch.bfloat16)
    ours = MasterAdamW(model, 0.0)
    set_gradients(ours.parameters, 0)
    ours.add_gradients()
    set_gradients(ours.parameters, 1)
    ours.drop_sums()
    for parameter in ours.parameters:
        parameter.grad = torch.zeros_like(parameter)
    ours.add_gradients()
    assert ours.step(RATE, 1.0) == 0
