"""Writing files so that a reader never sees half of one: stage, flush to disk, rename; and hashing them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any


def sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync_path(path: pathlib.Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone leaves the data in the drive's cache; see fsync(2) there
            with contextlib.suppress(OSError):  # not every file system has it
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
                return
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: pathlib.Path) -> None:
    """Make `folder` and what is missing above it, so that they survive a power loss."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_path(path.parent)


def replace_folder(staging: pathlib.Path, target: pathlib.Path) -> None:
    """Put the folder `staging` at `target`; a folder that is there goes only when the new one has its name.

    A folder cannot be renamed over one with files in it, so the old one steps aside first. A crash between the two renames
    leaves it whole beside the place, as `.old-NAME`.
    """
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    sync_path(staging)
    if target.exists():
        target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync_path(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def staged_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; it becomes `path` when the block ends without an error, and vanishes otherwise."""
    make_folder(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    staging = pathlib.Path(name)
    try:
        yield staging
        staging.chmod(0o644)
        sync_path(staging)
        staging.replace(path)
        sync_path(path.parent)
    finally:
        staging.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Like `staged_file` for a folder; a folder that is already at `target` is replaced."""
    make_folder(target.parent)
    staging = target.with_name(f".staging-{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        for path in staging.rglob("*"):
            sync_path(path)
        replace_folder(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with staged_file(path) as staging:
        staging.write_text(text)


def write_json(path: pathlib.Path, document: Any) -> None:
    """Write `document` to `path`, whole or not at all."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
