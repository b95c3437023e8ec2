"""What the collector counts: each byte once."""

from __future__ import annotations

import pathlib
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from overseer_training.telemetry import collector

INTERFACES = {
    "lo": 1, "docker0": 2, "br-3f2a": 4, "veth91ab": 8, "virbr0": 16, "eth0": 100, "wlan0": 1000,
}  # fmt: skip
DISKS = {"sda": 100, "sda1": 100, "nvme0n1": 1000, "dm-0": 100, "md0": 1000, "zram0": 5, "cciss/c0d0": 10_000}
TOGETHER = 7


@pytest.fixture
def counted(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A machine with those interfaces and disks; gives the folder in which its kernel lists block devices, all of them virtual."""

    def disks(perdisk: bool = False) -> Any:
        found = {name: SimpleNamespace(read_bytes=size, write_bytes=2 * size) for name, size in DISKS.items()}
        return found if perdisk else SimpleNamespace(read_bytes=TOGETHER, write_bytes=2 * TOGETHER)

    def interfaces(pernic: bool = False) -> Any:
        found = {name: SimpleNamespace(bytes_recv=size, bytes_sent=2 * size) for name, size in INTERFACES.items()}
        total = sum(INTERFACES.values())
        return found if pernic else SimpleNamespace(bytes_recv=total, bytes_sent=2 * total)

    monkeypatch.setattr(psutil, "disk_io_counters", disks)
    monkeypatch.setattr(psutil, "net_io_counters", interfaces)
    monkeypatch.setattr(collector, "BLOCK_DEVICES", tmp_path / "block")
    for name in DISKS:
        (tmp_path / "block" / name.replace("/", "!")).mkdir(parents=True)
    return tmp_path / "block"


def test_traffic_within_the_machine_is_not_counted(counted: pathlib.Path) -> None:
    assert collector._counters()[2:] == (1100, 2200)


def test_disks_are_the_physical_ones(counted: pathlib.Path) -> None:
    for name in ("sda", "nvme0n1", "cciss!c0d0"):
        (counted / name / "device").mkdir()
    assert collector._counters()[:2] == (11_100, 22_200)


@pytest.mark.parametrize("listed", [True, False])
def test_where_no_disk_is_physical_all_count_as_the_system_says(counted: pathlib.Path, listed: bool) -> None:
    if not listed:  # off Linux
        for folder in counted.iterdir():
            folder.rmdir()
        counted.rmdir()
    assert collector._counters()[:2] == (TOGETHER, 2 * TOGETHER)


def test_a_machine_that_says_nothing_has_no_counters(counted: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk=False: {} if perdisk else None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic=False: {} if pernic else None)
    assert collector._counters() == (None, None, None, None)
