"""The folder of a run: made, locked, logged to, found again.

Knows where checkpoints and data lie in it (`records.RunPaths`), and nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import logging
import os
import pathlib
from collections.abc import Iterator

from overseer_training.data.build import find_existing_data
from overseer_training.errors import CheckpointError, UsageError
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints


def new_run_folder(runs: pathlib.Path, name: str | None) -> pathlib.Path:
    """A new folder in `runs`, named after the time if `name` is None.

    Raises:
        UsageError: the name is taken or cannot be a folder's, or the folder cannot be made.
    """
    name = name or datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    if not name or "/" in name or name in (".", "..", "latest"):
        raise UsageError(f"--run-name {name!r} cannot be a folder name; use letters, digits, - and _")
    folder = runs / name
    if folder.exists():
        raise UsageError(f"{folder} exists; choose another --run-name, or go on with --resume-from-checkpoint {folder}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--output-dir: {folder} cannot be made: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def only_run_in(folder: pathlib.Path) -> Iterator[None]:
    """Hold the run directory; a lock dies with its process, so that none is ever stale."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"another process is training in {folder}; wait for it, or start a new run") from error
        yield


@contextlib.contextmanager
def log_to(path: pathlib.Path) -> Iterator[None]:
    """Send everything that the package logs to `path`, as JSON lines."""
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger("overseer_training")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def find_checkpoint_to_resume(asked: str, runs: pathlib.Path) -> pathlib.Path:
    """The checkpoint that --resume-from-checkpoint means: `latest`, a run, its checkpoints folder, or one checkpoint.

    Raises:
        UsageError: there is none.
    """
    if asked == "latest":
        folders = [
            folder
            for folder in runs.glob("*/checkpoints")
            if list_checkpoints(folder) and not folder.parent.is_symlink()
        ]
        if not folders:
            raise UsageError(
                f"--resume-from-checkpoint latest: no run in {runs} has a checkpoint; start one without the flag"
            )
        path = max(folders, key=lambda folder: list_checkpoints(folder)[0].stat().st_mtime)
    else:
        path = pathlib.Path(asked)
        path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        if not path.exists():
            raise UsageError(
                f"--resume-from-checkpoint {asked}: there is no such checkpoint; see runs/*/checkpoints, or use latest"
            )
    try:
        return find_checkpoint(path.resolve(), lambda message: print(f"note: {message}"))
    except CheckpointError as error:
        raise UsageError(f"--resume-from-checkpoint {asked}: {error}") from error


def existing_data(runs: pathlib.Path) -> pathlib.Path:
    """The data folder of the newest run in `runs` that has complete data.

    Raises:
        UsageError: there is none.
    """
    folder = find_existing_data(runs)
    if folder is None:
        raise UsageError(
            f"--use-existing-data: no run in {runs} has processed data; run once without the flag to make it"
        )
    return folder


def point_latest(folder: pathlib.Path) -> None:
    """Let `latest` beside `folder` point to it, in one step."""
    link = folder.parent / "latest"
    staging = folder.parent / f".latest-{os.getpid()}"
    staging.symlink_to(folder.name)
    staging.replace(link)


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
