"""Watches RAM and device memory against their limits, and turns the many kinds of out-of-memory errors into one."""

from __future__ import annotations

import dataclasses
import gc

import psutil
import torch

from overseer_training.config.machine import GIB, largest_memory_users, memory_limit_bytes, memory_used_bytes
from overseer_training.errors import MemoryLimitError
from overseer_training.training.allocator import give_back_freed_memory

MOST_KEPT = 1.5  # times what was usual, before what is freed goes back: the next step then takes a second longer
NEARLY = 0.9  # of the limit of RAM, before it goes back in any case


@dataclasses.dataclass
class MemoryReading:
    """Memory at one moment; fractions are of what this machine, cgroup or device has, used by everything on it."""

    ram_fraction: float
    process_rss_bytes: int
    device_fraction: float | None
    device_memory_bytes: int | None


class MemoryGuard:
    """Reads memory and says when a limit is passed.

    Args:
        ram_limit, gpu_limit: fractions; a gpu_limit of 0 is not watched.
        device: cpu, cuda or mps.
    """

    def __init__(self, ram_limit: float, gpu_limit: float, device: str) -> None:
        self.ram_limit, self.gpu_limit, self.device = ram_limit, gpu_limit, device
        self._total = memory_limit_bytes()
        self._process = psutil.Process()
        self.peak_rss_bytes = 0
        self.peak_ram_fraction = 0.0
        self._usual_bytes = 0

    def read(self) -> MemoryReading:
        rss = self._process.memory_info().rss
        used, total = _device_memory(self.device)
        reading = MemoryReading(
            ram_fraction=memory_used_bytes() / self._total,
            process_rss_bytes=rss,
            device_fraction=used / total if total else None,
            device_memory_bytes=used if total else None,
        )
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        self.peak_ram_fraction = max(self.peak_ram_fraction, reading.ram_fraction)
        return reading

    def give_back_what_adds_up(self) -> None:
        """Blocks of ever other sizes leave holes; the system gets them back where they have become a large part, or memory is short."""
        reading = self.read()
        self._usual_bytes = self._usual_bytes or reading.process_rss_bytes
        is_short = reading.ram_fraction > NEARLY * self.ram_limit
        if is_short or reading.process_rss_bytes > MOST_KEPT * self._usual_bytes:
            give_back_freed_memory()
            self._usual_bytes = max(self._usual_bytes, self.read().process_rss_bytes)  # mapped tokens are resident, too

    def problem(self, reading: MemoryReading) -> str:
        """What is above its limit, in a few words; empty when nothing is."""
        if reading.ram_fraction > self.ram_limit:
            return f"RAM is {reading.ram_fraction:.0%} in use, above the limit of {self.ram_limit:.0%}"
        if self.gpu_limit and reading.device_fraction is not None and reading.device_fraction > self.gpu_limit:
            return f"device memory is {reading.device_fraction:.0%} in use, above the limit of {self.gpu_limit:.0%}"
        return ""

    def check_before_start(self) -> None:
        """Refuse to start on a machine that is above a limit already.

        Raises:
            MemoryLimitError: with what uses the memory and what to do.
        """
        problem = self.problem(self.read())
        if problem:
            raise MemoryLimitError(
                f"{problem}, before training started; most is used by {', '.join(largest_memory_users())}. "
                "Close programs, or raise the limit with --ram-limit (or memory_threshold in training_config.py)."
            )


def free_caches(device: str) -> None:
    """Give back what the allocators hold without using it."""
    gc.collect()
    give_back_freed_memory()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that RAM or device memory ran out; each backend says it in its own way."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in (
            "out of memory",
            "can't allocate memory",
            "not enough memory",
            "bad_alloc",
            "defaultcpuallocator",
            "cublas_status_alloc_failed",
        )
    )


def _device_memory(device: str) -> tuple[int, int]:
    """(used, total) bytes of device memory, by everything on the device; (0, 0) on a CPU."""
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        return total - free, total
    if device == "mps":
        return torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
    return 0, 0


def format_bytes(count: float) -> str:
    return f"{count / GIB:.2f} GiB"
