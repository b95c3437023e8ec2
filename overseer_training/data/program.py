"""What decides, beside settings, which rows and tokens come out: this program and the libraries that it asks."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import pathlib
import platform

PACKAGE = pathlib.Path(__file__).parents[1]
LIBRARIES = (
    *("numpy", "pyyaml", "rensa", "tree-sitter", "tree-sitter-bash", "detect-secrets"),
    *("transformers", "tokenizers", "jinja2"),
)


@functools.cache
def program_digest() -> str:
    """SHA-256 of every file of this package, and of the versions of Python and those libraries."""
    total = hashlib.sha256(folder_digest(PACKAGE).encode())
    total.update(platform.python_version().encode())
    for name in LIBRARIES:
        total.update(f"{name} {importlib.metadata.version(name)}".encode())
    return total.hexdigest()


def folder_digest(folder: pathlib.Path) -> str:
    """SHA-256 of the names and contents of all files below `folder`, but for what Python compiled."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()
