"""Measures this machine with psutil, again and again, into a store.

Takes a store and an interval; gives samples. It reads counters only: no arguments of processes, no names of files, no addresses. A byte
counts once: on the physical disk, not on what is stacked on it (device mapper, RAID, memory), and on an interface to the outside.
"""

from __future__ import annotations

import heapq
import pathlib
import threading
import time
from typing import Any

import psutil

from overseer_training.telemetry.store import ProcessUse, Sample, Store

DEFAULT_INTERVAL_SECONDS = 10.0
PROCESSES_EVERY_SECONDS = 60.0  # a look at all processes costs more than all the rest
THIN_EVERY_SECONDS = 3600.0
TOP_PROCESSES = 5  # by processor, and as many by memory
MEGABYTE, MEGABIT = 1e6, 1e6 / 8
BLOCK_DEVICES = pathlib.Path("/sys/block")  # where Linux lists them; empty or missing elsewhere
# Names of interfaces begin so whose traffic stays on this machine, or is seen on another interface as well.
WITHIN = ("lo", "veth", "br-", "docker", "virbr")


class Sampler:
    """Measures rates between one call and the next."""

    def __init__(self) -> None:
        psutil.cpu_percent(None)  # the first call has nothing to compare with
        self._counters = _counters()
        self._counted_at = time.monotonic()
        self._processes_at = 0.0
        self._mounts = _mounts()

    def sample(self) -> Sample:
        """What the machine does now; rates are means since the call before."""
        now, counters = time.monotonic(), _counters()
        elapsed = max(now - self._counted_at, 1e-6)
        rates = [
            # A counter that went back was reset: an interface or disk that vanished.
            (new - old) / elapsed if new is not None and old is not None and new >= old else None
            for new, old in zip(counters, self._counters, strict=True)
        ]
        self._counters, self._counted_at = counters, now
        processes: tuple[ProcessUse, ...] = ()
        if now - self._processes_at >= PROCESSES_EVERY_SECONDS or not self._processes_at:
            processes, self._processes_at, self._mounts = _top_processes(), now, _mounts()
        read, written, received, sent = rates
        values = {
            "cpu_percent": psutil.cpu_percent(None),
            "memory_percent": psutil.virtual_memory().percent,
            "swap_percent": psutil.swap_memory().percent,
            "disk_percent": _fullest(self._mounts),
            "disk_read_mbyte": None if read is None else read / MEGABYTE,
            "disk_write_mbyte": None if written is None else written / MEGABYTE,
            "network_received_mbit": None if received is None else received / MEGABIT,
            "network_sent_mbit": None if sent is None else sent / MEGABIT,
            "load_1m": psutil.getloadavg()[0],
        }
        return Sample(time.time(), values, processes)


def collect(store: Store, interval_seconds: float, stop: threading.Event) -> None:
    """Sample every `interval_seconds` until `stop` is set.

    Raises:
        DataError: the store cannot be written.
    """
    sampler = Sampler()
    due = thinned = time.monotonic()
    store.thin(time.time())
    while not stop.wait(max(0.0, due + interval_seconds - time.monotonic())):
        # After a sleep of the machine, go on from now instead of making up for what was missed.
        due = max(due + interval_seconds, time.monotonic() - interval_seconds)
        store.add(sampler.sample())
        if time.monotonic() - thinned >= THIN_EVERY_SECONDS:
            store.thin(time.time())
            thinned = time.monotonic()


def _counters() -> tuple[int | None, int | None, int | None, int | None]:
    """Bytes since boot: read, written, received, sent; None where the system does not say."""
    disks = _disks()
    network = psutil.net_io_counters(pernic=True)
    outside = [counted for name, counted in network.items() if not name.startswith(WITHIN)]
    return (
        sum(disk.read_bytes for disk in disks) if disks else None,
        sum(disk.write_bytes for disk in disks) if disks else None,
        sum(counted.bytes_recv for counted in outside) if network else None,
        sum(counted.bytes_sent for counted in outside) if network else None,
    )


def _disks() -> list[Any]:
    """Counters of the physical disks, as the kernel knows them; of all together where it tells of none, as off Linux."""
    physical = {path.parent.name for path in BLOCK_DEVICES.glob("*/device")}
    if physical:
        counted = psutil.disk_io_counters(perdisk=True)
        # The kernel writes "!" for "/" there: cciss!c0d0.
        found = [disk for name, disk in counted.items() if name.replace("/", "!") in physical]
        if found:
            return found
    together = psutil.disk_io_counters()
    return [together] if together else []


def _mounts() -> list[str]:
    writable = [part.mountpoint for part in psutil.disk_partitions() if "ro" not in part.opts.split(",")]
    return list(dict.fromkeys(["/", *writable]))


def _fullest(mounts: list[str]) -> float | None:
    found = []
    for mount in mounts:
        try:
            found.append(psutil.disk_usage(mount).percent)
        except OSError:  # unmounted since, or not ours to see
            continue
    return max(found, default=None)


def _top_processes() -> tuple[ProcessUse, ...]:
    """Those that use most of the processor, and those that use most memory."""
    uses = [
        ProcessUse(
            process.pid,
            process.info["name"] or "",
            process.info["cpu_percent"] or 0.0,
            round(process.info["memory_percent"] or 0.0, 2),
        )
        for process in psutil.process_iter(["name", "cpu_percent", "memory_percent"])
    ]
    top = heapq.nlargest(TOP_PROCESSES, uses, key=lambda use: use.cpu_percent)
    top += heapq.nlargest(TOP_PROCESSES, uses, key=lambda use: use.memory_percent)
    return tuple(dict.fromkeys(top))
