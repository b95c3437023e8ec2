"""How this process was started: alone, or by torchrun as one of several that train together. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping

from overseer_training.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # torchrun sets all of them, and where to meet


@dataclasses.dataclass(frozen=True)
class Launch:
    """The place of this process among those of its launch.

    Attributes:
        rank: 0 for the process that prepares, prints, saves and evaluates.
        world_size: processes on all hosts.
        local_rank, local_world_size: the same, among those of this host.
        identity: of the torchrun that starts these processes, and starts them again when one dies; empty without one.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    identity: str = ""

    @property
    def hosts(self) -> int:
        return max(1, self.world_size // self.local_world_size)


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """What torchrun's variables say; a process without RANK and WORLD_SIZE is alone.

    Raises:
        UsageError: a variable is missing or no number.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return Launch()
    try:
        rank, world_size, local_rank, local_world_size = (int(environment[name]) for name in NAMES)
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"RANK is set, and {', '.join(NAMES)} must be numbers then ({error}); start with torchrun, or unset RANK"
        ) from None
    is_torchrun = "TORCHELASTIC_RUN_ID" in environment
    return Launch(rank, world_size, local_rank, local_world_size, _parent() if is_torchrun else "")


def _parent() -> str:
    """The process that started this one: torchrun stays the same while it starts its processes again."""
    import psutil  # `--help` answers without it

    parent = psutil.Process(os.getppid())
    return f"{platform.node()} {parent.pid} {parent.create_time():.2f}"
