"""Where the guards keep their files, and how those are kept from other users of the machine.

$OVERSEER_CONFIG, else the user's configuration folder, has the policy; $OVERSEER_STATE, else the user's state folder, has keys and
audit log.
"""

from __future__ import annotations

import json
import os
import pathlib
import stat
from typing import Any

from overseer_training.errors import UsageError
from overseer_training.files import write_json

NAME = "overseer-training"


def config_folder() -> pathlib.Path:
    """Where a person puts their policy; it may not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return pathlib.Path(os.environ.get("OVERSEER_CONFIG") or os.path.join(base, NAME)).expanduser()


def state_folder() -> pathlib.Path:
    """Where keys and audit log are kept; it may not exist."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return pathlib.Path(os.environ.get("OVERSEER_STATE") or os.path.join(base, NAME)).expanduser()


def make_private_folder(folder: pathlib.Path) -> pathlib.Path:
    """Make `folder` for its owner alone, or see that it is.

    Raises:
        UsageError: it cannot be made, belongs to somebody else, or others may write to it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made: {error.strerror}; set OVERSEER_STATE to a folder of yours"
        ) from error
    problem = find_foreign_writers(folder)
    if problem:
        raise UsageError(problem)
    return folder


def find_foreign_writers(path: pathlib.Path) -> str | None:
    """Who besides this user and root could have written `path`, as one line that says what to do; None for nobody."""
    status = path.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user, so it is not trusted; run: sudo chown $USER {path}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by others, so it is not trusted; run: chmod go-w {path}"
    return None


def write_private_json(path: pathlib.Path, document: Any) -> None:
    """Write `document` whole or not at all, into a folder that `make_private_folder` made."""
    write_json(path, document)
    path.chmod(0o600)


def read_json(path: pathlib.Path) -> Any:
    """The document in `path`.

    Raises:
        ValueError: it is no JSON, or no UTF-8.
    """
    return json.loads(path.read_text(encoding="utf-8"))
