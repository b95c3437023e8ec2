"""The entries of an export's manifest.json: files with size, hash and format, and what stays of an earlier export."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from overseer_training.errors import OverseerError
from overseer_training.files import sha256

MANIFEST_NAME = "manifest.json"
FORMATS = {".gguf": "gguf", ".safetensors": "safetensors", ".md": "markdown", ".json": "json", ".jinja": "jinja"}


def describe_file(path: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """The entry of one file of `folder`."""
    return {
        "path": path.relative_to(folder).as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "format": FORMATS.get(path.suffix, "modelfile" if path.name == "Modelfile" else "other"),
    }


def keep_valid_entries(folder: pathlib.Path, weights_sha256: list[str]) -> dict[str, dict[str, Any]]:
    """Entries of an earlier manifest by path: of the same weights, with files that are still what they were."""
    earlier = read_optional(folder / MANIFEST_NAME) or {}
    if earlier.get("weights_sha256") != weights_sha256:
        return {}
    entries = {entry["path"]: entry for entry in earlier.get("files", [])}
    return {
        name: entry
        for name, entry in entries.items()
        if (folder / name).is_file() and sha256(folder / name) == entry["sha256"]
    }


def read_optional(path: pathlib.Path) -> dict[str, Any] | None:
    """A JSON object of the run, None where the run has none.

    Raises:
        OverseerError: it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise OverseerError(f"{path} cannot be read ({error}). Run the step that writes it again.") from error
