"""Files that are either complete or absent.

Takes a target path and something that writes; gives the finished file or folder under its name, on disk. A crash leaves
a `.staging-*` entry beside the target, never a torn target. Not covered: two processes that write one target at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

HASH_CHUNK_BYTES = 1 << 20  # chosen: large enough that the calls do not count


def sync_path(path: pathlib.Path) -> None:
    """Push a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged_file(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; it takes the name `target` when the block ends without an error, and is removed otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".staging-{target.name}")
    try:
        yield staging
        sync_path(staging)
        os.replace(staging, target)
        sync_path(target.parent)
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
        os.replace(staging, target)
        sync_path(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(target: pathlib.Path, text: str) -> None:
    """Write a small UTF-8 file in one step."""
    with staged_file(target) as staging:
        staging.write_text(text, encoding="utf-8")


def write_json(target: pathlib.Path, value: Any) -> None:
    """Write JSON in one step."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256_of(path: pathlib.Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
