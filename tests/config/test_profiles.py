"""The profiles have the numbers of the mission, and win over each other as it says (rows A2-A6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overseer_training.config.plan import Plan

PlanOf = Callable[..., Plan]

MAC = {"device": "mps", "precision": "fp32", "micro_batch_size": 1, "gradient_accumulation_steps": 32, "sequence_length": 256, "ram_limit": 0.60, "gpu_limit": 0.70}  # fmt: skip
RESOURCE_EFFICIENT = {"micro_batch_size": 4, "gradient_accumulation_steps": 16, "learning_rate": 5e-5, "sequence_length": 1024, "ram_limit": 0.70, "gpu_limit": 0.75}  # fmt: skip
CPU_ONLY = {"device": "cpu", "micro_batch_size": 1, "gradient_accumulation_steps": 64, "learning_rate": 1e-5, "sequence_length": 128, "ram_limit": 0.50, "gpu_limit": 0.0}  # fmt: skip
DEFAULT = {"model_type": "gemma3n", "micro_batch_size": 4, "gradient_accumulation_steps": 16, "sequence_length": 1024, "learning_rate": 5e-5, "ram_limit": 0.75, "gpu_limit": 0.75, "epochs": 10, "warmup_steps": 100, "weight_decay": 0.01, "max_grad_norm": 1.0, "save_steps": 500, "eval_steps": 250, "max_steps": None, "time_budget_seconds": None}  # fmt: skip


def pick(plan: Plan, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in names}


def test_mac_profile_has_the_numbers_of_the_mission(plan_of: PlanOf) -> None:
    assert pick(plan_of("--mac", machine="apple"), MAC) == MAC


def test_resource_efficient_profile_has_the_numbers_of_the_mission(plan_of: PlanOf) -> None:
    assert pick(plan_of("--resource-efficient", machine="nvidia"), RESOURCE_EFFICIENT) == RESOURCE_EFFICIENT


def test_cpu_only_profile_has_the_numbers_of_the_mission(plan_of: PlanOf) -> None:
    assert pick(plan_of("--cpu-only", machine="nvidia"), CPU_ONLY) == CPU_ONLY


def test_default_has_the_numbers_of_the_mission(plan_of: PlanOf) -> None:
    assert pick(plan_of(machine="nvidia"), DEFAULT) == DEFAULT


def test_smaller_profiles_evaluate_and_save_more_often(plan_of: PlanOf) -> None:
    plans = [plan_of(machine="nvidia"), plan_of("--resource-efficient", machine="nvidia"), plan_of("--cpu-only")]
    for name in ("eval_steps", "save_steps"):
        steps = [getattr(plan, name) for plan in plans]
        assert steps == sorted(steps, reverse=True) and len(set(steps)) == 3


@pytest.mark.parametrize("flags", [("--mac",), ("--resource-efficient",), ("--cpu-only",), ()])
def test_no_profile_trains_in_fp16(flags: tuple[str, ...], plan_of: PlanOf) -> None:
    for machine in ("plain", "amx", "apple", "nvidia"):
        assert plan_of(*flags, machine=machine, for_run=False).precision in ("fp32", "bf16")


@pytest.mark.parametrize(
    ("flags", "winner", "losers"),
    [
        (("--resource-efficient", "--mac"), "mac", ["--resource-efficient"]),
        (("--resource-efficient", "--cpu-only"), "cpu-only", ["--resource-efficient"]),
        (("--cpu-only", "--mac"), "mac", ["--cpu-only"]),
        (("--cpu-only", "--resource-efficient", "--mac"), "mac", ["--cpu-only", "--resource-efficient"]),
    ],
)
def test_precedence_of_profiles_and_a_warning_for_each_loser(
    flags: tuple[str, ...], winner: str, losers: list[str], plan_of: PlanOf
) -> None:
    plan = plan_of(*flags, machine="apple")
    assert plan.profile == winner
    assert pick(plan, {"mac": MAC, "cpu-only": CPU_ONLY}[winner]) == {"mac": MAC, "cpu-only": CPU_ONLY}[winner]
    assert list(plan.warnings) == [f"--{winner} takes precedence over {loser}, which has no effect" for loser in losers]
    assert plan.origins["profile"] == f"flag --{winner}"


def test_a_losing_profile_leaves_no_value_behind(plan_of: PlanOf) -> None:
    plan = plan_of("--mac", "--cpu-only", machine="apple")
    assert (plan.learning_rate, plan.save_steps, plan.eval_steps) == (5e-5, 500, 250)  # the file's, not cpu-only's


def test_one_profile_gives_no_warning(plan_of: PlanOf) -> None:
    assert plan_of("--cpu-only").warnings == ()
    assert plan_of().origins["profile"] == "no profile flag"


def test_mac_refuses_to_run_without_mps_and_still_shows_its_plan(plan_of: PlanOf) -> None:
    from overseer_training.errors import ConfigError

    with pytest.raises(
        ConfigError, match=r"--mac needs Apple Silicon; this machine has no MPS device\. Try --cpu-only"
    ):
        plan_of("--mac", machine="plain")
    plan = plan_of("--mac", machine="plain", for_run=False)
    assert pick(plan, MAC) == MAC
    assert any("needs Apple Silicon" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("machine", "device", "precision"),
    [("plain", "cpu", "fp32"), ("amx", "cpu", "bf16"), ("apple", "mps", "fp32"), ("nvidia", "cuda", "bf16")],
)
def test_auto_takes_what_the_machine_has_and_says_so(
    machine: str, device: str, precision: str, plan_of: PlanOf
) -> None:
    plan = plan_of(machine=machine)
    assert (plan.device, plan.precision) == (device, precision)
    assert plan.origins["device"].startswith("machine: ") and plan.origins["precision"].startswith("machine: ")


def test_a_plan_without_a_gpu_has_no_gpu_limit_unless_asked(plan_of: PlanOf) -> None:
    assert plan_of(machine="plain").gpu_limit == 0.0
    assert plan_of("--gpu-limit", "0.4", machine="plain").gpu_limit == 0.4
