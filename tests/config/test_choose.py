"""What `auto` settles on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan
from overseer_training.models import catalog
from overseer_training.models.choose import settle


@pytest.mark.parametrize(("device", "expected"), [("cpu", "smollm2-135m"), ("cuda", "gemma3-270m")])
def test_a_larger_model_is_taken_where_there_is_a_gpu(
    device: str, expected: str, plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "is_present", lambda entry: entry.parameters < 10**9)
    machine = dataclasses.replace(find_machine(), memory_bytes=64 * 1024**3)
    plan = plan_of().with_values({"device": (device, "test"), "base_model": ("auto", "test"), "method": ("auto", "test")})
    assert settle(plan, machine).base_model == expected
