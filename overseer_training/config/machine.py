"""Facts about this machine that a plan needs, found without torch: processor, memory and its limit, accelerators, who uses memory."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import pathlib
import platform
import shutil

import psutil

CGROUP = pathlib.Path("/sys/fs/cgroup")
GIB = 1024**3


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found here.

    Attributes:
        memory_bytes: RAM that may be used: the machine's, or its cgroup's limit where that is lower.
        cpu_features: of those that decide precision: amx_bf16, avx512_bf16, bf16 (Arm).
    """

    system: str
    processor: str
    cores: int
    memory_bytes: int
    cpu_features: frozenset[str]
    has_mps: bool
    has_cuda: bool


@functools.cache
def find_machine() -> Machine:
    """Facts about this machine; takes about a millisecond."""
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    is_apple_silicon = system == "macOS" and platform.machine() == "arm64"
    features, processor = _cpu()
    return Machine(
        system=system,
        processor=processor,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=memory_limit_bytes(),
        cpu_features=features,
        has_mps=is_apple_silicon,
        has_cuda=pathlib.Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None,
    )


def memory_limit_bytes() -> int:
    """RAM that everything here may use together: the cgroup's limit (v2 or v1) where one is set, else the machine's."""
    total = int(psutil.virtual_memory().total)
    limits = [_number(path) for path in _cgroup_files("memory.max", "memory.limit_in_bytes")]
    return min([limit for limit in limits if limit] + [total])


def memory_used_bytes() -> int:
    """RAM in use by everything that shares the limit, reclaimable caches left out."""
    memory = psutil.virtual_memory()
    if memory_limit_bytes() < memory.total:
        for current, statistics in zip(
            _cgroup_files("memory.current", "memory.usage_in_bytes"),
            _cgroup_files("memory.stat", "memory.stat"),
            strict=False,
        ):
            used = _number(current)
            if used is not None:
                return max(0, used - _reclaimable(statistics))
    return int(memory.total - memory.available)


def largest_memory_users(count: int = 3) -> list[str]:
    """`name (pid, GiB)` of the processes with the most resident memory."""
    found = []
    for process in psutil.process_iter(["pid", "name", "memory_info"]):
        info = process.info["memory_info"]
        if info is not None:
            found.append((info.rss, f"{process.info['name']} (pid {process.info['pid']}, {info.rss / GIB:.1f} GiB)"))
    return [text for _, text in sorted(found, reverse=True)[:count]]


def has_torch() -> bool:
    """Whether torch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def _cpu() -> tuple[frozenset[str], str]:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return frozenset(), platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = f"{fields.get('flags', '')} {fields.get('Features', '')}".split()
    name = fields.get("model name") or platform.processor() or platform.machine()
    return frozenset({"amx_bf16", "avx512_bf16", "bf16"} & set(flags)), name


def _cgroup_files(version2: str, version1: str) -> list[pathlib.Path]:
    """The file of this process's own cgroup and of each of its parents, those that exist."""
    folders = []
    try:
        entries = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        entries = []
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if controllers == "":
            root, name = CGROUP, version2
        elif "memory" in controllers.split(","):
            root, name = CGROUP / "memory", version1
        else:
            continue
        folder = root / path.lstrip("/")
        folders += [parent / name for parent in (folder, *folder.parents) if parent.is_relative_to(root)]
    folders += [CGROUP / version2, CGROUP / "memory" / version1]  # inside a container its own cgroup is the root
    return [path for path in dict.fromkeys(folders) if path.exists()]


def _number(path: pathlib.Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(statistics: pathlib.Path) -> int:
    try:
        fields = dict(line.split() for line in statistics.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("inactive_file", fields.get("total_inactive_file", 0))) + int(
        fields.get("slab_reclaimable", 0)
    )
