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

from overseer_training.data.row_file import find_existing_data
from overseer_training.errors import CheckpointError, UsageError
from overseer_training.files import make_folder, sync_path, write_text
from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints, step_of, verify_checkpoint

LAUNCH = ".launch"
NEWEST = ".newest"  # link to the run that was started or resumed last: an order that no clock changes


def new_run_folder(runs: pathlib.Path, name: str | None) -> pathlib.Path:
    """A new folder in `runs`, named after the time if `name` is None; of several that ask for one name, one gets it.

    Raises:
        UsageError: the name is taken or cannot be a folder's, or the folder cannot be made.
    """
    if name is not None and ("/" in name or name in ("", ".", "..", "latest", NEWEST)):
        raise UsageError(f"--run-name {name!r} cannot be a folder name; use letters, digits, - and _")
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    # Two runs may begin in one second, and a clock that is set back gives a second again.
    names = [name] if name is not None else [now, *(f"{now}-{number}" for number in range(2, 100))]
    try:
        make_folder(runs)
        for candidate in names:
            with contextlib.suppress(FileExistsError):
                (runs / candidate).mkdir()
                sync_path(runs)
                return runs / candidate
    except OSError as error:
        raise UsageError(f"--output-dir: {runs / names[0]} cannot be made: {error.strerror}") from error
    folder = runs / names[0]
    raise UsageError(f"{folder} exists; choose another --run-name, or go on with --resume-from-checkpoint {folder}")


def mark_launch(folder: pathlib.Path, identity: str) -> None:
    """Note which launch trains in `folder`, so that it is found when its processes are started again; nothing without one."""
    if identity:
        write_text(folder / LAUNCH, identity)


def folder_of_launch(runs: pathlib.Path, identity: str) -> pathlib.Path | None:
    """The folder in `runs` that `mark_launch` marked."""
    marked = [path for path in runs.glob(f"*/{LAUNCH}") if identity and path.read_text() == identity]
    return max((path.parent.resolve() for path in marked), key=lambda folder: folder.stat().st_mtime, default=None)


@contextlib.contextmanager
def only_run_in(folder: pathlib.Path) -> Iterator[None]:
    """Hold the run directory; a lock dies with its process, so that none is ever stale.

    Raises:
        UsageError: another process holds it, or it cannot be locked.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context((folder / ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is training in {folder}; wait for it, or start a new run") from error
        except OSError as error:
            raise UsageError(f"{folder} cannot be locked: {error.strerror}; choose another --output-dir") from error
        yield


def mark_newest(folder: pathlib.Path) -> None:
    """Note that `folder` is the run that was started or resumed last; where that cannot be noted `latest` goes by the clock."""
    with contextlib.suppress(OSError):
        _point(folder.parent / NEWEST, folder)


@contextlib.contextmanager
def log_to(path: pathlib.Path) -> Iterator[None]:
    """Send everything that the package logs to `path`, as JSON lines."""
    handler = _LogFile(path, delay=True)
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
        started_last = (runs / NEWEST).resolve() / "checkpoints"
        path = next(
            (folder for folder in folders if folder.resolve() == started_last),
            max(folders, key=lambda folder: list_checkpoints(folder)[0].stat().st_mtime),
        )
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


def newest_now(checkpoint: pathlib.Path) -> pathlib.Path:
    """`checkpoint`, or a newer valid one beside it: the run may have saved once more before its folder was locked."""
    newer = [path for path in list_checkpoints(checkpoint.parent) if step_of(path) > step_of(checkpoint)]
    return next((path for path in newer if not verify_checkpoint(path)), checkpoint)


def point_latest(folder: pathlib.Path) -> None:
    """Let `latest` beside `folder` point to it, in one step."""
    _point(folder.parent / "latest", folder)


def _point(link: pathlib.Path, folder: pathlib.Path) -> None:
    staging = link.with_name(f".{link.name}-{os.getpid()}")
    staging.unlink(missing_ok=True)
    staging.symlink_to(folder.name)
    staging.replace(link)
    sync_path(link.parent)


class _LogFile(logging.FileHandler):
    """A log that cannot be written, as on a full disk, is no reason to stop, nor to fill the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


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
