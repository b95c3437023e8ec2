"""Rows and tokens of earlier runs, for runs with the same settings: only what comes from the corpus alone.

Takes the plan and the data folder of a run; fills that folder, or keeps what is in it, the newest two of a kind. Nothing here can stop a
run: what cannot be read is made again, what cannot be kept is not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import shutil

from overseer_training.config.plan import Plan
from overseer_training.config.schema import FIELDS
from overseer_training.data.program import folder_digest, program_digest
from overseer_training.data.row_file import MANIFEST, TOKENS, RowFile, read_rows
from overseer_training.data.sources.corpus import CORPUS
from overseer_training.errors import DataError
from overseer_training.files import make_folder, staged_folder

logger = logging.getLogger(__name__)
MOST_KEPT = 2


def cache_key(plan: Plan) -> str | None:
    """A digest of everything that decides the rows of `plan`; None where not all of them come from the corpus."""
    if plan.sources or plan.kaggle_datasets or plan.teachers or plan.continuous_learning or plan.use_existing_data:
        return None
    names = [
        "seed",
        *(field.name for field in FIELDS if field.group == "data_config" and not field.may_change_on_resume),
    ]
    facts = [program_digest(), folder_digest(CORPUS), {name: getattr(plan, name) for name in names}]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def fetch_rows(cache: pathlib.Path, key: str, data: pathlib.Path) -> dict[str, RowFile] | None:
    """The rows that were kept under `key`, in `data` now; None where there are none, or not what their manifest says.

    Their tokens come with them, and are looked at by who uses them.
    """
    kept = cache / key
    if not (kept / MANIFEST).exists():
        return None
    try:
        _link(kept, data)
        rows = read_rows(data)
        os.utime(kept)
        return rows
    except (OSError, DataError) as error:
        logger.warning("rows in %s are made again: %s", kept, error)
        (data / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(data / TOKENS, ignore_errors=True)
        shutil.rmtree(kept, ignore_errors=True)
        return None


def keep_rows(cache: pathlib.Path, key: str, data: pathlib.Path) -> None:
    """Keep the rows in `data`, and their tokens, under `key`."""
    kept, tokens = cache / key, pathlib.PurePath(TOKENS, MANIFEST)
    try:
        if (kept / tokens).exists() and (kept / tokens).read_bytes() == (data / tokens).read_bytes():
            return
        with staged_folder(kept) as staging:
            _link(data, staging)
        newest_last = sorted(
            (path for path in cache.iterdir() if not path.name.startswith(".")), key=lambda path: path.stat().st_mtime
        )
        for old in newest_last[:-MOST_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        logger.warning("rows are not kept for later runs: %s", error)


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Put the rows and tokens in `source` into `target` too, manifests last. Files are shared: they are replaced, and never changed."""
    for folder in (pathlib.PurePath(), pathlib.PurePath(TOKENS)):
        if not (source / folder / MANIFEST).exists():
            continue
        make_folder(target / folder)
        found = [path.name for path in (source / folder).iterdir() if path.is_file() and not path.name.startswith(".")]
        for name in sorted(found, key=lambda name: name == MANIFEST):
            (target / folder / name).unlink(missing_ok=True)
            try:
                os.link(source / folder / name, target / folder / name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source / folder / name, target / folder / name)
