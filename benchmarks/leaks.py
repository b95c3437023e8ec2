"""Looks for texts where they must not stand: in files, and in what `ps` shows of running processes."""

from __future__ import annotations

import mmap
import pathlib
import threading
import time
from collections.abc import Iterable, Mapping

EVERY_SECONDS = 0.05  # chosen: shorter than any program takes to start


def find_in_files(folders: Iterable[pathlib.Path], secrets: Mapping[str, str]) -> tuple[int, list[str]]:
    """(files looked at, "what in which file" of each find); names of files count, links are not followed."""
    found, number = [], 0
    needles = {what: text.encode() for what, text in secrets.items()}
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        found += [f"{what} in the name {path}" for what, text in secrets.items() if text in path.name]
        if path.is_symlink() or not path.is_file():
            continue
        number += 1
        if not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found += [f"{what} in {path}" for what, needle in needles.items() if content.find(needle) >= 0]
    return number, found


class TitleWatch(threading.Thread):
    """Reads the titles of all processes of this machine again and again until `stop`.

    Attributes:
        seen: when one had the text, on the clock of `time.monotonic`.
        looks: how often all were read.
    """

    def __init__(self, text: str) -> None:
        super().__init__(daemon=True)
        self._needle = text.encode()
        self._stopped = threading.Event()
        self.seen: list[float] = []
        self.looks = 0

    def run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            self.looks += 1
            if any(self._needle in title for title in _titles()):
                self.seen.append(time.monotonic())

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _titles() -> Iterable[bytes]:
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:  # it has ended
            continue
