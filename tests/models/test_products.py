"""Products that are one operation of autograd give the numbers of the layers that they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from overseer_training.models.products import project

WIDTH, INNER, ROWS = 16, 24, 10
Form = dict[str, Any]
FORMS: dict[str, Form | None] = {
    "plain": None,
    "adapted": {},
    "dora": {"use_dora": True},
    "two have adapters": {"target_modules": ["first", "third"]},
}


class Layers(torch.nn.Module):
    """Three layers that read the same input."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, INNER, bias=bias)
        self.second = torch.nn.Linear(WIDTH, 8, bias=False)
        self.third = torch.nn.Linear(WIDTH, 8, bias=False)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.first(hidden), self.second(hidden), self.third(hidden)


def make_layers(form: Form | None, dtype: torch.dtype, bias: bool = False) -> Any:
    torch.manual_seed(0)
    layers: Any = Layers(bias).to(dtype)
    if form is not None:
        values = {"r": 4, "lora_alpha": 8, "target_modules": ["first", "second", "third"], **form}
        layers = get_peft_model(layers, LoraConfig(**values), autocast_adapter_dtype=False).get_base_model()
        for name, parameter in layers.named_parameters():
            if "lora_B" in name:  # begins as zero, which would hide A
                torch.nn.init.normal_(parameter)
    return layers


def loss_and_gradients(layers: Any, products: tuple[torch.Tensor, ...], hidden: torch.Tensor) -> list[torch.Tensor]:
    sum(product.float().cos().sum() for product in products).backward()  # type: ignore[union-attr]
    trained = [parameter.grad for parameter in layers.parameters() if parameter.requires_grad]
    return [*(product.detach() for product in products), hidden.grad, *trained]  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_products_and_gradients_are_those_of_the_layers(form: str, bias: bool, dtype: torch.dtype) -> None:
    found = []
    for is_ours in (False, True):
        layers = make_layers(FORMS[form], dtype, bias)
        hidden = torch.linspace(-1, 1, 2 * ROWS * WIDTH).sin().view(2, ROWS, WIDTH).to(dtype).requires_grad_()
        products = project(hidden, layers.first, layers.second, layers.third) if is_ours else layers(hidden)
        found.append(loss_and_gradients(layers, products, hidden))
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.15}
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize("form", ["plain", "adapted"])
def test_known_layers_are_one_operation(form: str) -> None:
    layers = make_layers(FORMS[form], torch.float32)
    products = project(torch.ones(1, WIDTH), layers.first, layers.second)
    names = {type(product.grad_fn.next_functions[0][0]).__name__ for product in products}  # type: ignore[union-attr]
    assert names == {"_ProductsBackward"}


def test_an_adapter_with_dropout_still_drops() -> None:
    layers = make_layers({"lora_dropout": 0.9}, torch.float32)
    hidden = torch.ones(1, WIDTH)
    assert not torch.equal(project(hidden, layers.first)[0], project(hidden, layers.first)[0])


def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    layers = make_layers({}, torch.float32)
    product = project(torch.ones(1, WIDTH), layers.first)[0]
    product.sum().backward()
    assert layers.first.base_layer.weight.grad is None
    assert layers.first.lora_A["default"].weight.grad is not None
