"""The processes that train one model together, as little as the loop needs to know of them.

    share             what the first process gives, in all
    gather            what each process gives, in all
    sum_tensors       sums over all processes, in place
    copy_from_first   the first process's numbers, in place

One process alone is a `World` too, in which all of this does nothing. Imports torch only where there are several.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from overseer_training.config.launch import Launch
from overseer_training.config.machine import find_machine
from overseer_training.errors import LostProcessError, NotAvailableError, TrainingError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
STEP_TIMEOUT = datetime.timedelta(minutes=30)  # torch's own: a host that fell silent within a step ends the run
PATIENCE = datetime.timedelta(days=30)  # while the first process prepares: teachers and downloads may take hours
BUCKET_BYTES = 25 * 1024**2  # as in torch's DistributedDataParallel; tensors of a bucket travel together


class World:
    """Some processes, of which this is one. Each must make the same calls in the same order.

    Every call raises LostProcessError when another process ended or cannot be reached.

    Attributes:
        rank: 0 for the first process.
        size: how many processes there are.
    """

    def __init__(self, launch: Launch | None = None, waiting: Any = None) -> None:
        launch = launch or Launch()
        self.rank, self.size, self._local_rank = launch.rank, launch.world_size, launch.local_rank
        self._waiting, self._tensors = waiting, None  # process groups; None is the one of all, with STEP_TIMEOUT

    def use(self, device: str) -> None:
        """Exchange tensors on `device` from here on; each process of a host takes a GPU of its own.

        Raises:
            NotAvailableError: there are fewer GPUs than processes here.
        """
        if self.size == 1 or device != "cuda":
            return
        import torch

        if self._local_rank >= torch.cuda.device_count():
            raise NotAvailableError(
                f"process {self.rank} finds {torch.cuda.device_count()} GPUs and needs number {self._local_rank}; "
                "start as many processes a host as it has GPUs (torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(self._local_rank)
        with self._losses_told():
            self._tensors = torch.distributed.new_group(backend="nccl", timeout=STEP_TIMEOUT)

    def share(self, value: T) -> T:
        """The value of the first process; the others wait for it as long as it takes."""
        if self.size == 1:
            return value
        from torch import distributed

        box = [value]
        with self._losses_told():
            distributed.broadcast_object_list(box, src=0, group=self._waiting)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        if self.size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.size
        with self._losses_told():
            distributed.all_gather_object(values, value)
        return values

    def sum_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes, which is the same to the bit in each."""
        if self.size == 1:
            return
        import torch

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket])
            with self._losses_told():
                torch.distributed.all_reduce(flat, group=self._tensors)
            for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.detach().copy_(total.view_as(tensor))

    def copy_from_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by the first process's, of the same shape and dtype."""
        if self.size == 1:
            return
        import torch

        for tensor in tensors:
            received = tensor.detach().contiguous()
            with self._losses_told():  # as bytes: not every transport knows every dtype
                torch.distributed.broadcast(received.view(-1).view(torch.uint8), src=0, group=self._tensors)
            if received.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(received)

    def leave(self) -> None:
        """End the exchange; what follows has this host's cores for itself."""
        if self._waiting is None:
            return
        import torch

        self._waiting = None
        torch.distributed.destroy_process_group()
        torch.set_num_threads(find_machine().cores)

    @contextlib.contextmanager
    def _losses_told(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what every transport raises when a connection closes, and on a timeout
            who = f"process {self.rank}: " if self.rank else ""
            raise LostProcessError(
                f"{who}another of the {self.size} processes of this run ended or cannot be reached; if it gave no reason it was "
                "killed. Go on with --resume-from-checkpoint latest"
            ) from error


def join(launch: Launch) -> World:
    """The world of `launch`, once all of its processes are there.

    Raises:
        TrainingError: they did not find each other.
    """
    if launch.world_size == 1:
        return World()
    import torch

    try:
        torch.distributed.init_process_group(
            "gloo", store=_meet(launch), rank=launch.rank, world_size=launch.world_size, timeout=STEP_TIMEOUT
        )
        waiting = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise TrainingError(
            f"process {launch.rank} of {launch.world_size} did not reach the others by way of {address} "
            f"({' '.join(str(error).split())[:200]}); see docs/many_machines.md"
        ) from error
    if os.environ.get("OMP_NUM_THREADS") == "1":  # torchrun's own choice, which leaves most cores idle
        torch.set_num_threads(max(1, find_machine().cores // launch.local_world_size))
    return World(launch, waiting)


def _meet(launch: Launch) -> Any:
    """A store of this attempt, which every process has reached.

    torchrun keeps its store when it starts its processes again, with what the dead ones left in it (torch 2.13), and it does not
    count attempts alike on all hosts. So the first process names each attempt, and answers whoever asks under a name of its own.

    Raises:
        RuntimeError: the store cannot be reached, or not all processes came in time.
    """
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", launch.rank, launch.world_size, timeout=STEP_TIMEOUT))
    own_name = uuid.uuid4().hex
    if launch.rank != 0:
        store.set(f"asking/{launch.rank}", own_name)
        attempt = store.get(f"answer/{own_name}").decode()
        store.set(f"{attempt}/{launch.rank}", "")
        return PrefixStore(attempt, store)
    others = range(1, launch.world_size)
    deadline = time.monotonic() + STEP_TIMEOUT.total_seconds()
    while not store.check([f"{own_name}/{rank}" for rank in others]):
        for rank in others:
            if store.check([f"asking/{rank}"]):
                store.set(f"answer/{store.get(f'asking/{rank}').decode()}", own_name)
        if time.monotonic() > deadline:
            raise RuntimeError("some of them did not come")
        time.sleep(0.05)
    return PrefixStore(own_name, store)


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The tensors in their order, as many together as BUCKET_BYTES allow, or one."""
    bucket: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
