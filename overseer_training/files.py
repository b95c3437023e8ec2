"""Writing files so that a reader never sees half of one: stage, flush to disk, rename; and hashing them."""

from __future__ import annotations

import contextlib
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
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; it becomes `path` when the block ends without an error, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".staging-{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        for path in staging.rglob("*"):
            sync_path(path)
        sync_path(staging)
        # A folder cannot be renamed over one with files: a crash while the old one goes leaves less of it, and no
        # manifest that lists it.
        if target.exists():
            shutil.rmtree(target)
        staging.replace(target)
        sync_path(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with staged_file(path) as staging:
        staging.write_text(text)


def write_json(path: pathlib.Path, document: Any) -> None:
    """Write `document` to `path`, whole or not at all."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
