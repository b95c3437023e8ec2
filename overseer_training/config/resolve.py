"""Flags, profile, training_config.py and machine become one plan.

Takes parsed flags, a `Configuration` and a `Machine`; gives a `Plan`. Knows nothing of data or models beyond a width.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from overseer_training.config.load import Configuration
from overseer_training.config.machine import Machine
from overseer_training.config.plan import Plan
from overseer_training.config.schema import FIELDS
from overseer_training.errors import ConfigError

# Schulman et al., "LoRA Without Regret", 2025; the power is theirs for Llamas.
LORA_RATE_FACTOR = 10.0
LORA_WIDTH_POWER = 0.78


def choose_profile(flags: argparse.Namespace) -> tuple[str, list[str]]:
    """Name of the profile in force, and what to tell about flags that lost."""
    asked = [name for name in ("mac", "cpu_only", "resource_efficient") if getattr(flags, name)]
    if not asked:
        return "default", []
    winner, *losers = (f"--{name.replace('_', '-')}" for name in asked)
    return winner.removeprefix("--"), [
        f"{winner} takes precedence over {loser}, which has no effect" for loser in losers
    ]


def resolve(flags: argparse.Namespace, configuration: Configuration, machine: Machine, *, for_run: bool) -> Plan:
    """The plan for `flags` on `machine`; `auto` values that depend on the model are settled by `models.choose`.

    Args:
        for_run: False describes the machine that was asked for (`--mac --plan` works anywhere) and only warns.

    Raises:
        ConfigError: wrong values or contradictions, all in one message.
    """
    profile, warnings = choose_profile(flags)
    values, origins, problems = _layer(flags, configuration, profile)
    problems += _contradictions(flags, values, profile)
    device, device_origin, problem = _device(values.get("device", "auto"), origins.get("device", ""), profile, machine)
    if problem:
        (problems if for_run else warnings).append(problem)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    values["device"], origins["device"] = device, device_origin
    if device == "cpu" and origins.get("gpu_limit") == "training_config.py":
        values["gpu_limit"], origins["gpu_limit"] = 0.0, "machine: no GPU is used"
    if values["macos_share"] == "auto":
        on_mac = machine.system == "macOS"
        values["macos_share"] = float(on_mac)
        origins["macos_share"] = f"machine: {'a Mac' if on_mac else 'not a Mac'}"
    if values["train_embeddings"] == "auto":
        is_random = values["model_type"] == "custom" and not configuration.custom_model["checkpoint"]
        values["train_embeddings"] = is_random
        origins["train_embeddings"] = f"model_type: the weights are {'random at first' if is_random else 'pretrained'}"
    if values["precision"] == "auto":
        values["precision"], origins["precision"] = _precision(device, machine)
    values["hybrid"], origins["hybrid"] = _hybrid(flags, values)
    values["teachers"], origins["teachers"] = _teachers(flags, values, origins)
    return Plan(
        profile=profile,
        effective_learning_rate=values["learning_rate"],
        custom_model=configuration.custom_model,
        gate=configuration.gate,
        kaggle_datasets=list(configuration.kaggle_datasets) if flags.download_data else [],
        use_existing_data=flags.use_existing_data,
        continuous_learning=flags.continuous_learning,
        origins={
            **origins,
            "profile": f"flag --{profile}" if profile != "default" else "no profile flag",
            "effective_learning_rate": "learning_rate, not fitted to a model yet",
            "custom_model": configuration.path.name,
            "gate": configuration.path.name,
            "continuous_learning": "flag --continuous-learning" if flags.continuous_learning else "no flag",
            "start_from": "no --continuous-learning",
            "world_size": "one process",
            "kaggle_datasets": configuration.path.name if flags.download_data else "no --download-data",
            "use_existing_data": "flag --use-existing-data" if flags.use_existing_data else "no flag",
        },
        warnings=tuple(warnings),
        **values,
    )


def _hybrid(flags: argparse.Namespace, values: Mapping[str, Any]) -> tuple[bool, str]:
    if flags.llm_hybrid is not None:
        return flags.llm_hybrid == "true", "flag --llm-hybrid"
    return values["model_type"] == "hybrid", "model_type"


def _teachers(
    flags: argparse.Namespace, values: Mapping[str, Any], origins: Mapping[str, str]
) -> tuple[list[str], str]:
    """Who teaches, and why: nobody unless a flag or model_type hybrid asks for it."""
    names, origin = list(values["teachers"]), origins["teachers"]
    is_named = origin.startswith("flag")
    if not (flags.llm_integration or flags.llm_api_key or is_named or values["hybrid"]):
        return [], "no --llm-integration"
    if flags.llm_api_key and not any(name.startswith(("gemini", "http")) for name in names):
        only_key = not (flags.llm_integration or is_named or values["hybrid"])
        return [*([] if only_key else names), "gemini:"], "the key of --llm-api-key"
    return names, origin


def fit_learning_rate(plan: Plan, width: int, factor: float | None) -> Plan:
    """The plan with the rate that the optimizer gets.

    A configured rate is for all weights of a model 2,048 wide. Adam's best rate falls with the width (Yang et al., "Tensor
    Programs V", 2022), so a narrower model takes a larger one; `factor` is the catalog's own where it has one.
    Adapters take ten times the rate of all weights, and depend less on the width. A rate given by a flag is taken as it is.
    """
    if plan.origins.get("learning_rate", "").startswith("flag"):
        return plan.with_values({"effective_learning_rate": (plan.learning_rate, "as the flag says")})
    if plan.method in ("lora", "dora"):
        by_width = (2048 / width) ** LORA_WIDTH_POWER
        rate = plan.learning_rate * LORA_RATE_FACTOR * by_width
        reasons = [f"x{LORA_RATE_FACTOR:g} for adapters", f"x{by_width:.3g} for a width of {width}"]
    else:
        by_model = factor if factor is not None else 2048 / width
        rate = plan.learning_rate * by_model
        reasons = [f"x{by_model:g} for {'this model' if factor is not None else f'a width of {width}'}"]
    return plan.with_values({"effective_learning_rate": (float(f"{rate:.6g}"), "learning_rate " + " ".join(reasons))})


def _layer(
    flags: argparse.Namespace, configuration: Configuration, profile: str
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    values: dict[str, Any] = dict(configuration.values)
    origins: dict[str, str] = dict.fromkeys(values, configuration.path.name)
    differences: Mapping[str, Any] = configuration.profiles.get(profile, {})
    for name, value in differences.items():
        values[name], origins[name] = value, f"profile --{profile}"
    problems = []
    for field in FIELDS:
        given = getattr(flags, field.name, None)
        if given is None:
            continue
        try:
            values[field.name], origins[field.name] = field.parse(given), f"flag {field.flag}"
        except ValueError as error:
            problems.append(f"{field.flag} must be {error}, not {given!r}")
    return values, origins, problems


def _contradictions(flags: argparse.Namespace, values: Mapping[str, Any], profile: str) -> list[str]:
    problems = []
    if flags.download_data and flags.use_existing_data:
        problems.append("--download-data and --use-existing-data contradict each other; give one")
    if flags.use_existing_data and (
        flags.llm_integration or flags.llm_api_key or flags.teachers or flags.llm_hybrid == "true"
    ):
        problems.append("the --llm flags make new data and --use-existing-data takes what is there; give one")
    if flags.continuous_learning and flags.use_existing_data:
        problems.append("--continuous-learning makes new data and --use-existing-data takes what is there; give one")
    if flags.continuous_learning and values.get("self_improvement_rounds"):
        problems.append("--continuous-learning learns from you and --self-improve from the corpus; give one")
    if profile == "cpu-only" and values["device"] != "cpu":
        problems.append(f"--cpu-only and --device {values['device']} contradict each other; give one")
    if profile == "mac" and values["device"] not in ("mps", "auto"):
        problems.append(f"--mac trains on MPS and contradicts --device {values['device']}; give one")
    custom = values["model_type"] == "custom"
    if custom and values["method"] in ("lora", "dora"):
        problems.append(
            f"a custom model starts from random weights, and --method {values['method']} would freeze them; use full"
        )
    if values["method"] in ("lora", "dora") and getattr(flags, "train_embeddings", None) == "true":
        problems.append(f"--method {values['method']} leaves the embeddings alone; --train-embeddings needs --method full")
    if custom and getattr(flags, "base_model", None) is not None:
        problems.append("--base-model has no effect on model_type custom; set custom_model['checkpoint'] instead")
    if flags.resume_from_checkpoint and flags.run_name:
        problems.append("--run-name names a new run and --resume-from-checkpoint goes on with an old one; give one")
    return problems


def _device(asked: str, origin: str, profile: str, machine: Machine) -> tuple[str, str, str]:
    """(device, origin, problem): the problem is a line about a device that this machine lacks."""
    if asked == "mps" and not machine.has_mps:
        who = "--mac" if profile == "mac" else "--device mps"
        return "mps", origin, f"{who} needs Apple Silicon; this machine has no MPS device. Try --cpu-only."
    if asked == "cuda" and not machine.has_cuda:
        return "cuda", origin, "--device cuda needs an NVIDIA GPU; this machine has none. Try --cpu-only."
    if asked != "auto":
        return asked, origin, ""
    if machine.has_mps:
        return "mps", "machine: Apple Silicon", ""
    if machine.has_cuda:
        return "cuda", "machine: NVIDIA GPU", ""
    return "cpu", "machine: no GPU found", ""


def _precision(device: str, machine: Machine) -> tuple[str, str]:
    if device == "cuda":
        return "bf16", "machine: bf16 on CUDA"
    if device == "mps":
        return "fp32", "machine: fp32 is safe on MPS"
    if machine.cpu_features:
        return "bf16", f"machine: the processor has {', '.join(sorted(machine.cpu_features))}"
    return "fp32", "machine: the processor has no bf16 instructions"
