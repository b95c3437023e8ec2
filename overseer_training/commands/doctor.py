"""Whether this machine can do what the project does, in one screen; with --prove-resume also that a killed run goes on exactly."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import pathlib
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from overseer_training.errors import OverseerError

OLDEST_PYTHON = (3, 11)
PROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"
MAIN_PACKAGES = ("torch", "transformers", "peft", "safetensors", "xllamacpp")  # whose versions are shown
BYTES_A_WEIGHT = (
    3 * 12 + 2 + 2 + 2
)  # three checkpoints of fp32 weights and moments while one is replaced; best, model, export


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one look found; `advice` says what to do, and is empty where all is well."""

    name: str
    found: str
    advice: str = ""


def add(commands: Any) -> None:
    """Add the parser of this topic."""
    doctor = commands.add_parser("doctor", help="whether this machine has what training needs", allow_abbrev=False)
    doctor.add_argument(
        "--prove-resume",
        action="store_true",
        help="also train a tiny model, kill it, resume it, and compare every byte with a run left alone (half a minute)",
    )
    doctor.add_argument(
        "--output-dir",
        type=pathlib.Path,
        default=pathlib.Path("runs"),
        metavar="DIR",
        help="where runs would be (runs)",
    )
    doctor.set_defaults(run=_doctor)


def _doctor(flags: argparse.Namespace) -> int:
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("machine", _machine),
        ("python", _python),
        ("packages", _packages),
        ("sandbox", _sandbox),
        ("memory", _memory),
        ("disk", lambda: _disk(flags.output_dir)),
        ("model", lambda: _model(flags.output_dir)),
    ]
    if flags.prove_resume:
        checks.append(("resume", _resume))
    is_well = True
    for name, check in checks:
        try:
            finding = check()
        except OverseerError as error:
            finding = Finding(name, "cannot be used", str(error))
        print(format_finding(finding), flush=True)
        is_well = is_well and not finding.advice
    return 0 if is_well else OverseerError.exit_code


def format_finding(finding: Finding) -> str:
    """`name  ok  what was found`, and below it what to do where something is wrong."""
    state = "ok " if not finding.advice else "NOT"
    lines = [f"{finding.name:<10} {state}  {finding.found}"]
    return "\n".join(lines + ([f"{'':<15} {finding.advice}"] if finding.advice else []))


def _machine() -> Finding:
    from overseer_training.config.machine import find_machine

    found = find_machine()
    accelerators = [name for name, is_there in (("CUDA", found.has_cuda), ("MPS", found.has_mps)) if is_there]
    features = f", {' '.join(sorted(found.cpu_features))}" if found.cpu_features else ""
    with_what = ", ".join(accelerators) or "no accelerator: trains on the processor"
    return Finding("machine", f"{found.system}, {found.processor}, {found.cores} cores{features}; {with_what}")


def _python() -> Finding:
    advice = (
        "" if sys.version_info >= OLDEST_PYTHON else "needs Python 3.11 or newer; try: make setup PYTHON=python3.12"
    )
    return Finding("python", f"{platform.python_version()} at {sys.executable}", advice)


def _packages() -> Finding:
    pinned = dict(_pinned())
    found = {name: _installed(name) for name in pinned}
    missing = [name for name, version in found.items() if version is None]
    other = [f"{name} {found[name]} (not {pinned[name]})" for name in pinned if found[name] not in (None, pinned[name])]
    shown = ", ".join(f"{name} {found[name]}" for name in MAIN_PACKAGES if found.get(name))
    problems = ([f"missing: {', '.join(missing)}"] if missing else []) + (
        [f"other versions: {', '.join(other)}"] if other else []
    )
    return Finding(
        "packages",
        f"{len(pinned) - len(missing)} of {len(pinned)}: {shown}",
        f"{'; '.join(problems)}; set up again with: make setup" if problems else "",
    )


def _pinned() -> list[tuple[str, str]]:
    """(name, version) of what this project runs with."""
    try:
        lines: Sequence[str] = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    except OSError:  # installed without its repository
        lines = [line for line in importlib.metadata.requires("overseer-training") or [] if "extra ==" not in line]
    return [(match[1], match[2]) for line in lines if (match := re.match(r"([\w.-]+)==([^\s;]+)", line))]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _sandbox() -> Finding:
    from overseer_training.evaluation.sandbox import find_sandbox

    try:
        return Finding("sandbox", f"{find_sandbox().name}: ran a command without network and privileges")
    except OverseerError as error:
        return Finding("sandbox", "none: commands would be unscored", str(error))


def _memory() -> Finding:
    from overseer_training.config.machine import GIB, find_machine, largest_memory_users, memory_used_bytes

    plan, forecast = _plan()
    total, used = find_machine().memory_bytes, memory_used_bytes()
    needed, allowed = forecast["peak_memory_gib"], plan.ram_limit * total / GIB
    text = (
        f"{used / GIB:.1f} of {total / GIB:.1f} GiB in use; a run with {plan.base_model} needs about {needed:.1f}, "
        f"and stops at {allowed:.1f}"
    )
    is_enough = used / GIB + needed <= allowed
    users = ", ".join(largest_memory_users())
    advice = (
        f"close programs (most is used by {users}), or use --resource-efficient, --cpu-only or a higher --ram-limit"
    )
    return Finding("memory", text, "" if is_enough else advice)


def _disk(runs: pathlib.Path) -> Finding:
    from overseer_training.config.machine import GIB
    from overseer_training.models.choose import model_size

    place = next(folder for folder in (runs.resolve(), *runs.resolve().parents) if folder.exists())
    free = shutil.disk_usage(place).free / GIB
    plan, _ = _plan()
    needed = model_size(plan).parameters * BYTES_A_WEIGHT / GIB
    text = f"{free:.1f} GiB free at {place}; a run with all weights of {plan.base_model} writes up to {needed:.1f}"
    return Finding("disk", text, "" if free >= needed else "free disk space, or name another place with --output-dir")


def _model(runs: pathlib.Path) -> Finding:
    """Whether the newest model and its export are what was signed; every file is read."""
    from overseer_training.guards.signatures import check_signature
    from overseer_training.records import RunPaths

    latest = RunPaths(runs / "latest")
    words = {"owner": "as you signed it", "other": "signed by another key than yours", "nobody": "not signed"}
    found = [
        f"{folder.name} is {words[check_signature(folder, afresh=True)]}"
        for folder in (latest.model, latest.export)
        if folder.is_dir()
    ]
    return Finding("model", f"{latest.root}: {', '.join(found) or 'none yet'}")


def _plan() -> tuple[Any, dict[str, Any]]:
    """The plan and forecast of a run without flags."""
    from overseer_training.config.flags import build_parser
    from overseer_training.planning import make_plan

    return make_plan(build_parser().parse_args([]), for_run=False)


def _resume() -> Finding:
    import tempfile

    from overseer_training.training.resume_proof import STEPS, prove_resume

    with tempfile.TemporaryDirectory(prefix="overseer-proof-") as folder:
        proof = prove_resume(pathlib.Path(folder))
    how = (
        f"{STEPS} steps on {proof.device} in {proof.precision}; again, killed after step {proof.killed_after} and resumed from "
        f"step {proof.resumed_from} in a new process ({proof.seconds:.0f} s)"
    )
    if proof.differences:
        advice = f"not the same: {', '.join(proof.differences)}. A resumed run goes on here, but not to the byte; please report it"
        return Finding("resume", how, advice)
    return Finding(
        "resume",
        f"{how}:\n{'':<15} weights, optimizer, best weights, order of rows and {STEPS} losses are the same to the byte",
    )
