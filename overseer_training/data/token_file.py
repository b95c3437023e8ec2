"""The token ids of a run on disk: written row by row, mapped into memory to train on.

Takes rows and a tokenizer; gives a `TokenSet` whose arrays are files: `ids`, `labels` (int32), `starts` (int64), in this machine's byte
order, and, last, `manifest.json`, which says what they were made from.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from overseer_training.data.program import program_digest
from overseer_training.data.row_file import MANIFEST, SEALED, TOKENS, read_manifest
from overseer_training.data.tokenize import TokenSet, tokenize, tokenize_rows
from overseer_training.errors import PreflightError
from overseer_training.files import sha256, staged_file, write_json
from overseer_training.records import Example

ARRAYS = {"ids": np.int32, "labels": np.int32, "starts": np.int64}
TOKENIZER_SUFFIXES = (".json", ".jinja", ".model", ".txt")
BLOCK_BYTES = 1 << 20


def training_tokens(
    rows: Iterable[Example],
    data: pathlib.Path,
    tokenizer: Any,
    model: pathlib.Path,
    sequence_length: int,
    stop_ids: Sequence[int],
) -> TokenSet:
    """The tokens of a run's training rows, on disk in `data/tokens`; those that are there already, where they are the same.

    Rows of the owner's stay in memory: their ids say what they say.

    Args:
        data: the folder of `rows`.
        model: the folder of `tokenizer`.

    Raises:
        PreflightError: see `tokenize`; or there are no rows.
    """
    files = read_manifest(data)["files"]
    if SEALED in files:
        return tokenize(rows, tokenizer, sequence_length, stop_ids)
    folder, made_from = data / TOKENS, _made_from(files["train.jsonl"], model, sequence_length, stop_ids)
    tokens = open_tokens(folder, made_from)
    if tokens is None:
        too_long = _write(rows, folder, tokenizer, sequence_length, stop_ids)
        write_json(folder / MANIFEST, {"made_from": made_from, "too_long": too_long, "digest": _digest(folder)})
        tokens = map_tokens(folder)
    return tokens


def open_tokens(folder: pathlib.Path, made_from: str) -> TokenSet | None:
    """The tokens in `folder`; None where they are missing, damaged, or made from something else."""
    try:
        manifest = read_manifest(folder)
        is_right = manifest["made_from"] == made_from and manifest["digest"] == _digest(folder)
        return map_tokens(folder) if is_right else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _made_from(rows: str, model: pathlib.Path, sequence_length: int, stop_ids: Sequence[int]) -> str:
    """A digest of everything that decides the tokens: the digest of the rows, tokenizer with its template, program."""
    files = {path.name: sha256(path) for path in sorted(model.iterdir()) if path.suffix in TOKENIZER_SUFFIXES}
    facts = [program_digest(), rows, files, sequence_length, list(stop_ids)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _write(
    rows: Iterable[Example], folder: pathlib.Path, tokenizer: Any, sequence_length: int, stop_ids: Sequence[int]
) -> int:
    """Write the arrays, each whole or not at all; gives how many rows were too long."""
    (folder / MANIFEST).unlink(missing_ok=True)
    end = too_long = 0
    with contextlib.ExitStack() as stack:
        ids, labels, starts = (
            stack.enter_context(stack.enter_context(staged_file(folder / name)).open("wb")) for name in ARRAYS
        )
        starts.write(array.array("q", [0]))
        for row in tokenize_rows(rows, tokenizer, sequence_length, stop_ids):
            if row is None:
                too_long += 1
                continue
            ids.write(array.array("i", row[0]))
            labels.write(array.array("i", row[1]))
            end += len(row[0])
            starts.write(array.array("q", [end]))
        if not end:
            raise PreflightError("there are no rows to train on; see --sources and the values of data_config")
    return too_long


def map_tokens(folder: pathlib.Path) -> TokenSet:
    """The complete tokens in `folder`, unchecked."""
    manifest = read_manifest(folder)
    ids, labels, starts = (np.asarray(np.memmap(folder / name, kind, "r")) for name, kind in ARRAYS.items())
    return TokenSet(ids, labels, starts, manifest["too_long"], manifest["digest"], is_mapped=True)


def _digest(folder: pathlib.Path) -> str:
    """`TokenSet.digest` of the arrays, read rather than mapped: every page of a map that was read counts as this process's memory."""
    total = hashlib.sha256()
    for name in ARRAYS:
        with (folder / name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                total.update(block)
    return total.hexdigest()
