"""Writing files so that a reader never sees half of one: stage, flush to disk, rename; and hashing them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any


def sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync_folder(folder: pathlib.Path) -> None:
    """Make renames in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: pathlib.Path) -> None:
    """Make the content of `path` survive a power loss."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


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
        sync_file(staging)
        staging.replace(path)
        sync_folder(path.parent)
    finally:
        staging.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with staged_file(path) as staging:
        staging.write_text(text)


def write_json(path: pathlib.Path, document: Any) -> None:
    """Write `document` to `path`, whole or not at all."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
