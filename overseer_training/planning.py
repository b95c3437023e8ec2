"""What a run is going to do, and what that is expected to cost; imports no torch.

Flags and `training_config.py` become a `Plan`; a resumed run keeps the plan that it had, but for what may change.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from overseer_training.config import machine as machine_facts
from overseer_training.config.launch import find_launch
from overseer_training.config.load import CONFIG_PATH, load_configuration
from overseer_training.config.machine import GIB, find_machine
from overseer_training.config.plan import Plan, read_plan
from overseer_training.config.resolve import resolve
from overseer_training.config.schema import FIELDS
from overseer_training.data.sources.kaggle import reviewed as kaggle
from overseer_training.errors import ConfigError, DataError, MemoryLimitError
from overseer_training.models import choose
from overseer_training.records import RunPaths
from overseer_training.run_folder import existing_data, find_checkpoint_to_resume, folder_of_launch
from overseer_training.training.checkpoint_paths import list_checkpoints

ESTIMATED_PRODUCTS_PER_SECOND = {
    "bf16": 1.2e11,
    "fp32": 0.4e11,
}  # estimated, of a core while training, for plans made without a probe
SMALLER_STEPS = 4
LEAST_RATE = 1.25e-5  # configured, for smaller steps: half of it was not tried, twice as much was no better (docs/performance.md)
CONTINUED_RATE = 0.2  # of the rate for a base model, for a model that was trained before; chosen


def choose_start(flags: argparse.Namespace) -> tuple[Plan, pathlib.Path | None, pathlib.Path | None]:
    """(plan, checkpoint, folder) of the run of `flags`; no checkpoint and no folder where it is new.

    When a process dies torchrun starts all of them again, with the same flags: they go on with the run that they had begun.

    Raises:
        UsageError: with every problem found.
    """
    begun = folder_of_launch(flags.output_dir, find_launch().identity)
    if flags.resume_from_checkpoint:
        asked = str(begun or flags.resume_from_checkpoint)
        flags = argparse.Namespace(**{**vars(flags), "resume_from_checkpoint": asked})
        checkpoint = find_checkpoint_to_resume(asked, flags.output_dir)
        return make_plan(flags, for_run=True)[0], checkpoint, checkpoint.parents[1]
    if begun is not None and list_checkpoints(RunPaths(begun).checkpoints):
        checkpoint = find_checkpoint_to_resume(str(begun), flags.output_dir)
        return _for_launch(read_plan(RunPaths(begun).plan)), checkpoint, begun
    return make_plan(flags, for_run=True)[0], None, begun


def make_plan(flags: argparse.Namespace, *, for_run: bool) -> tuple[Plan, dict[str, Any]]:
    """The plan of `flags` on this machine and what it is expected to cost; imports no torch.

    Raises:
        UsageError: with every problem found.
    """
    configuration = load_configuration(flags.config or CONFIG_PATH)
    if flags.resume_from_checkpoint:
        checkpoint = find_checkpoint_to_resume(flags.resume_from_checkpoint, flags.output_dir)
        plan = _resumed_plan(flags, read_plan(RunPaths(checkpoint.parents[1]).plan), checkpoint)
        return _for_launch(plan), {}
    kaggle.read_datasets(configuration.kaggle_datasets)
    plan = go_on_from_latest(resolve(flags, configuration, find_machine(), for_run=for_run), flags.output_dir)
    plan = choose.settle(plan, find_machine())
    if plan.start_from:
        plan = gentler(plan)
    plan = _for_launch(plan)
    if plan.use_existing_data:
        existing_data(flags.output_dir)
    return plan, forecast_run(plan, _count_rows(plan, flags.output_dir))


def go_on_from_latest(plan: Plan, runs: pathlib.Path) -> Plan:
    """`plan` with the newest model as its start, where it learns from interactions and asks for no other kind of model."""
    latest = RunPaths(runs / "latest")
    if not plan.continuous_learning:
        return plan
    if not (latest.model / "overseer.json").exists():
        return plan.with_values({"start_from": ("", f"{latest.root} has no model yet")})
    try:
        earlier = read_plan(latest.plan)
    except DataError:
        return plan.with_values({"start_from": ("", f"{latest.plan} is of another version")})
    other = _other_value(plan, earlier)
    if other:
        return plan.with_values({"start_from": ("", f"{latest.root} has another {other}")})
    origin = f"as in {latest.root}"
    return plan.with_values(
        {
            "base_model": (earlier.base_model, origin),
            "method": (earlier.method, origin),
            "start_from": (str(latest.root.resolve()), "the newest model, which --continuous-learning goes on from"),
        }
    )


def _other_value(plan: Plan, earlier: Plan) -> str:
    """The first value by which `plan` asks for another kind of model than `earlier` has; empty where there is none."""
    if (plan.model_type == "custom") != (earlier.model_type == "custom"):
        return "model_type"
    names = ["custom_model"] if plan.model_type == "custom" else ["base_model", "method"]
    names += ["lora_rank", "lora_alpha", "lora_dropout"] if earlier.method in ("lora", "dora") else []
    return next((name for name in names if getattr(plan, name) not in ("auto", getattr(earlier, name))), "")


def gentler(plan: Plan) -> Plan:
    """`plan` for a trained model that learns on from few rows: smaller steps and a lower rate, unless flags give them."""
    changes: dict[str, tuple[Any, str]] = {}
    if not plan.origins["learning_rate"].startswith("flag"):
        rate = float(f"{plan.effective_learning_rate * CONTINUED_RATE:.6g}")
        origin = f"{plan.origins['effective_learning_rate']} x{CONTINUED_RATE:g} for a trained model"
        changes["effective_learning_rate"] = (rate, origin)
    accumulation = plan.gradient_accumulation_steps
    if accumulation >= SMALLER_STEPS and not plan.origins["gradient_accumulation_steps"].startswith(("flag", "fitted")):
        origin = f"fitted: few rows, and steps a {SMALLER_STEPS}th as large teach more"
        changes["gradient_accumulation_steps"] = (accumulation // SMALLER_STEPS, origin)
    return plan.with_values(changes)


def _for_launch(plan: Plan) -> Plan:
    """`plan` with the number of processes that share its steps.

    Raises:
        ConfigError: they cannot.
    """
    launch = find_launch()
    problems = []
    if launch.world_size > 1 and plan.device == "mps":
        problems.append("MPS is one device, which several processes cannot share; start without torchrun")
    if launch.world_size > plan.effective_batch_size:
        problems.append(
            f"a step of {plan.effective_batch_size} examples cannot be shared by {launch.world_size} processes; "
            "start fewer, or raise --gradient-accumulation-steps"
        )
    if problems:
        raise ConfigError(problems)
    origin = f"torchrun: {launch.local_world_size} on this host" if launch.world_size > 1 else "one process"
    return plan.with_values({"world_size": (launch.world_size, origin)})


def fit_steps(plan: Plan, rows: int, seconds_per_step: float | None) -> Plan:
    """`plan` with steps fitted to its time budget, and warm-up, saves and validations fitted to their number and size.

    Validations and saves come after as many examples as configured, however small the steps, and at least four times in a run.

    Args:
        rows: of an epoch.
        seconds_per_step: measured or estimated; needed with a time budget.
    """
    whole_steps = plan.gradient_accumulation_steps
    plan, seconds_per_step = _fit_batch(plan, rows, seconds_per_step)
    steps_per_epoch = -(-rows // plan.effective_batch_size)
    total = min(steps_per_epoch * plan.epochs, plan.max_steps or 10**9)
    changes: dict[str, tuple[Any, str]] = {}
    if plan.time_budget_seconds is not None and seconds_per_step is not None:
        affordable = max(1, int(plan.time_budget_seconds / seconds_per_step))
        if affordable < total:
            left_out = plan.epochs - affordable / steps_per_epoch
            reason = f"fitted to {plan.time_budget_seconds / 60:g} min at {seconds_per_step:.1f} s a step; leaves out {left_out:.1f} of {plan.epochs} epochs"
            changes["max_steps"] = (affordable, reason)
            total = affordable
    smaller = whole_steps // plan.gradient_accumulation_steps  # so many times as many steps see as many examples
    for name, divisor, times in (("warmup_steps", 10, 1), ("eval_steps", 4, smaller), ("save_steps", 4, smaller)):
        if plan.origins.get(name, "").startswith(("flag", "fitted")):
            continue
        value = max(1, min(getattr(plan, name) * times, total // divisor))
        if value != getattr(plan, name):
            changes[name] = (value, f"fitted to {total} steps of {plan.effective_batch_size} rows")
    return plan.with_values(changes)


def _fit_batch(plan: Plan, rows: int, seconds_per_step: float | None) -> tuple[Plan, float | None]:
    """Smaller steps where the time is not enough for an epoch: the same examples then teach more, see docs/performance.md.

    The rate falls with the square root of the step, but not below one that was measured to be as good. Source: Malladi et al., On the SDEs and
    Scaling Rules for Adaptive Gradient Algorithms, 2022.
    """
    if plan.time_budget_seconds is None or seconds_per_step is None or rows_of_probe(plan) == plan.effective_batch_size:
        return plan, seconds_per_step
    if plan.time_budget_seconds / seconds_per_step * plan.effective_batch_size >= rows:
        return plan, seconds_per_step
    accumulation = plan.gradient_accumulation_steps
    reason = f"fitted: the time is no epoch, and steps a {SMALLER_STEPS}th as large teach more"
    changes: dict[str, tuple[Any, str]] = {"gradient_accumulation_steps": (accumulation // SMALLER_STEPS, reason)}
    factor = max(SMALLER_STEPS**-0.5, min(1.0, LEAST_RATE / plan.learning_rate))
    if factor < 1 and not plan.origins["learning_rate"].startswith("flag"):
        origin = f"{plan.origins['effective_learning_rate']} x{factor:g} for steps a {SMALLER_STEPS}th as large"
        changes["effective_learning_rate"] = (float(f"{plan.effective_learning_rate * factor:.6g}"), origin)
    smaller = plan.with_values(changes)
    return smaller, seconds_per_step * smaller.effective_batch_size / plan.effective_batch_size


def rows_of_probe(plan: Plan) -> int:
    """Rows of the steps that are timed before training: of smaller ones where the plan may come to have these."""
    is_given = plan.origins.get("gradient_accumulation_steps", "").startswith(("flag", "fitted"))
    is_fixed = plan.time_budget_seconds is None or plan.max_steps is not None or plan.method != "full" or is_given
    smaller = plan.micro_batch_size * (plan.gradient_accumulation_steps // SMALLER_STEPS)
    is_possible = smaller >= max(1, plan.world_size)
    return smaller if is_possible and not is_fixed else plan.effective_batch_size


def forecast_run(plan: Plan, rows: int | None, seconds_per_step: float | None = None) -> dict[str, Any]:
    """What a run is expected to do and to cost; times are estimates until a probe measured them.

    Args:
        rows: of an epoch; None where nobody knows them before the run.
    """
    size = choose.model_size(plan)
    memory = _forecast_memory(plan, size)
    if rows is None:
        return {**memory, "basis": "how long it takes depends on your interactions, which a plan leaves closed"}
    tokens_per_row = 60  # measured: mean of 185,713 training rows with the tokenizer of SmolLM2
    estimated = seconds_per_step is None
    if seconds_per_step is None:
        speed = ESTIMATED_PRODUCTS_PER_SECOND[plan.precision] * find_machine().cores * find_launch().hosts
        seconds_per_step = plan.effective_batch_size * tokens_per_row * 6 * size.parameters / speed
    fitted = fit_steps(plan, rows, seconds_per_step)
    seconds_per_step *= fitted.effective_batch_size / plan.effective_batch_size
    steps_per_epoch = -(-rows // fitted.effective_batch_size)
    total = min(steps_per_epoch * plan.epochs, fitted.max_steps or 10**9)
    return {
        "training_rows": rows,
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total,
        "epochs_covered": round(total / steps_per_epoch, 2),
        "seconds_per_step": round(seconds_per_step, 2),
        "training_minutes": round(total * seconds_per_step / 60, 1),
        **memory,
        "basis": "estimated from the number of cores" if estimated else "measured on this machine before training",
    }


def _forecast_memory(plan: Plan, size: choose.Size) -> dict[str, float]:
    """GiB of a process, and of all on this host where there are several."""
    gib, processes = choose.forecast_memory_bytes(size, plan) / GIB, find_launch().local_world_size
    all_here = {f"peak_memory_gib_of_{processes}_processes": round(processes * gib, 2)} if processes > 1 else {}
    return {"peak_memory_gib": round(gib, 2), **all_here}


def _resumed_plan(flags: argparse.Namespace, plan: Plan, checkpoint: pathlib.Path) -> Plan:
    """The plan of the run that is resumed, with the few values that may change without changing what is learned."""
    changes: dict[str, tuple[Any, str]] = {}
    problems = []
    for field in FIELDS:
        given = getattr(flags, field.name, None)
        if given is None:
            continue
        try:
            value = field.parse(given)
        except ValueError as error:
            problems.append(f"{field.flag} must be {error}, not {given!r}")
            continue
        if field.may_change_on_resume:
            changes[field.name] = (value, f"flag {field.flag}")
        elif value != getattr(plan, field.name):
            problems.append(
                f"{field.flag} {value} would change what the resumed run learns (it has {getattr(plan, field.name)}); start a new run for that"
            )
    if any(
        getattr(flags, name)
        for name in ("llm_integration", "llm_api_key", "llm_hybrid", "continuous_learning", "download_data")
    ):
        problems.append(
            "teachers, downloads and interactions cannot join a run that has begun; leave their flags out, or start a new run"
        )
    for name in ("mac", "resource_efficient", "cpu_only"):
        asked = name.replace("_", "-")
        if getattr(flags, name) and plan.profile != asked:
            problems.append(f"--{asked}: the resumed run was started with profile {plan.profile}; leave the flag out")
    if "micro_batch_size" in changes:  # the step keeps its examples
        batch, micro = plan.effective_batch_size, changes["micro_batch_size"][0]
        if batch % micro:
            problems.append(f"--micro-batch-size must divide the {batch} examples of a step")
        else:
            changes["gradient_accumulation_steps"] = (batch // micro, "the step keeps its examples")
    if problems:
        raise ConfigError(problems)
    return plan.with_values({**changes})


def check_memory(plan: Plan) -> None:
    """Raise MemoryLimitError when this machine is above the plan's RAM limit before anything starts."""
    used, total = machine_facts.memory_used_bytes(), machine_facts.memory_limit_bytes()
    if used / total > plan.ram_limit:
        raise MemoryLimitError(
            f"RAM is {used / total:.0%} in use before anything starts, above the limit of {plan.ram_limit:.0%}; most is used by "
            f"{', '.join(machine_facts.largest_memory_users())}. Close programs, or raise the limit with --ram-limit."
        )


def _count_rows(plan: Plan, runs: pathlib.Path) -> int | None:
    from overseer_training.data.build import estimate_training_rows

    if plan.start_from:
        return None
    if plan.use_existing_data:
        manifest = json.loads((existing_data(runs) / "manifest.json").read_text())
        return int(manifest["splits"]["train"]["rows"])
    return estimate_training_rows(plan)
