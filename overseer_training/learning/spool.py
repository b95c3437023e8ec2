"""What the hooks of the shells wrote, brought into the store.

Takes the files of `hook_scripts.py`, one for each session; gives interactions to the store and deletes the files. Killed at any moment,
it neither loses nor repeats a command; several processes take turns. Commands that begin with a space are left out, as the shells leave them out of their histories.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
from collections.abc import Iterator

from overseer_training.learning.consent import read_consent
from overseer_training.learning.interaction import Interaction
from overseer_training.learning.store import Store

TAKEN = ".taken"
LOCK = ".spool.lock"  # in the learning folder, for the spools of both places
RECORD, UNIT = "\x1e", "\x1f"
NUMBERED = re.compile(r"\s*(\d+)\*?\s+(\d+) (.*)", re.DOTALL)
FIELDS = 7  # with the empty one behind the last separator: a record that was cut off has fewer
OWN = re.compile(r"(?:\S*/)?overseer\s")


def collect(store: Store) -> int:
    """Bring what the hooks wrote into `store`; gives the number of new interactions. Without consent it is deleted instead."""
    with _locked(store.folder):
        return sum(_collect_from(folder, store) for folder in spool_folders(store.folder) if folder.is_dir())


def spool_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Where hooks write: in memory where this user has a folder there, else in the learning folder."""
    runtime = pathlib.Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    return [folder / "spool", runtime / "overseer-training"]


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """No other process collects in the block: two that found the same taken file would each delete it for the other."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _collect_from(folder: pathlib.Path, store: Store) -> int:
    count = 0
    # What a killed process took comes first: the same session's next file would be put in its place.
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix != TAKEN):
        taken = path if path.suffix == TAKEN else path.rename(path.with_name(path.name + TAKEN))
        if read_consent(store.folder) == "on":
            size = -1
            while size != taken.stat().st_size:  # a shell that was writing when the file was taken has written by then
                size = taken.stat().st_size
                count += _keep(store, taken)
        taken.unlink()
    return count


def _keep(store: Store, path: pathlib.Path) -> int:
    origins: list[str] = []
    interactions: list[Interaction] = []
    for record in path.read_bytes().decode("utf-8", "replace").split(RECORD)[1:]:
        fields = record.split(UNIT)
        numbered = NUMBERED.match(fields[5]) if len(fields) == FIELDS else None
        if numbered is None or not fields[3].isdecimal():
            continue
        shell, session, first, exit_code, directory = fields[:5]
        number, time, command = numbered.groups()
        origin = f"shell/{session}/{number}/{time}"
        if first:
            store.mark_seen([origin])
        elif not command.startswith(" ") and command.strip() and not OWN.match(command):
            origins.append(origin)
            interactions.append(
                Interaction(
                    float(time), "shell", command=command.strip(), exit_code=int(exit_code),
                    directory=directory, shell=shell, session=session,
                )
            )  # fmt: skip
    return store.add(interactions, origins)
