"""Machines and plans, made without looking at the machine that runs the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import GIB, Machine
from overseer_training.config.plan import Plan
from overseer_training.config.resolve import resolve

PLAIN_CPU = Machine("Linux", "plain", 2, 16 * GIB, frozenset(), has_mps=False, has_cuda=False)
AMX_CPU = Machine("Linux", "amx", 2, 16 * GIB, frozenset({"amx_bf16"}), has_mps=False, has_cuda=False)
APPLE = Machine("macOS", "Apple M3", 8, 16 * GIB, frozenset(), has_mps=True, has_cuda=False)
NVIDIA = Machine("Linux", "gpu", 16, 64 * GIB, frozenset({"avx512_bf16"}), has_mps=False, has_cuda=True)
MACHINES = {"plain": PLAIN_CPU, "amx": AMX_CPU, "apple": APPLE, "nvidia": NVIDIA}


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """`plan_of("--mac", machine="apple")`: the plan of these flags on that machine, as a run would have it."""

    def make(*flags: str, machine: str = "plain", for_run: bool = True) -> Plan:
        return resolve(build_parser().parse_args(flags), load_configuration(), MACHINES[machine], for_run=for_run)

    return make
