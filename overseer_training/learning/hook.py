"""Puts a hook into the start-up file of bash, zsh or fish, and takes it out again byte for byte.

Takes a shell's name; changes its start-up file by one marked block that reads a script from the learning folder. Installing twice is
installing once. What the hook writes is read by `spool.py`.
"""

from __future__ import annotations

import os
import pathlib
import shlex

from overseer_training.errors import DataError, UsageError
from overseer_training.files import staged_file
from overseer_training.guards.folders import make_private_folder
from overseer_training.learning.hook_scripts import SCRIPTS

BEGIN, END = b"\n# >>> overseer: overseer learn remove-hook takes this out >>>\n", b"# <<< overseer <<<\n"
MADE = b"# this file was made for the hook\n"
SHELLS = tuple(SCRIPTS)


def current_shell() -> str:
    """The owner's login shell, or bash where that has no hook."""
    name = pathlib.Path(os.environ.get("SHELL", "")).name
    return name if name in SHELLS else "bash"


def start_up_file(shell: str) -> pathlib.Path:
    """What `shell` reads when it starts interactively.

    Raises:
        UsageError: there is no hook for this shell.
    """
    home = pathlib.Path.home()
    if shell == "bash":
        return home / ".bashrc"
    if shell == "zsh":
        return pathlib.Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    if shell == "fish":
        return pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "fish/conf.d/overseer.fish"
    raise UsageError(f"there is no hook for {shell!r}; there is one for {', '.join(SHELLS)}")


def install_hook(shell: str, folder: pathlib.Path) -> pathlib.Path:
    """Let `shell` write to the spool of the learning folder; gives its start-up file.

    Raises:
        UsageError: there is no hook for this shell.
        DataError: the start-up file cannot be read or written.
    """
    path = start_up_file(shell).resolve()  # a link into somebody's dotfiles stays a link
    folder = make_private_folder(folder).resolve()
    make_private_folder(folder / "spool")
    script = folder / f"hook.{shell}"
    text = SCRIPTS[shell].replace("@FOLDER@", shlex.quote(str(folder))).replace("@SCRIPT@", shlex.quote(str(script)))
    with staged_file(script) as staging:
        staging.write_text(text)
    before = _read(path)
    source = f"source {shlex.quote(str(script))}"
    line = (
        f"test -r {shlex.quote(str(script))}; and {source}"
        if shell == "fish"
        else f"[ -r {shlex.quote(str(script))} ] && {source}"
    )
    block = BEGIN + (MADE if before is None or MADE in before else b"") + line.encode() + b"\n" + END
    _write(path, _without_block(before or b"", path) + block)
    return path


def remove_hook(shell: str, folder: pathlib.Path) -> bool:
    """Take the hook out: the start-up file is as it was before. False where there is none.

    Raises:
        UsageError: there is no hook for this shell.
        DataError: the start-up file cannot be read or written, or its block was changed by hand.
    """
    path = start_up_file(shell).resolve()
    (folder / f"hook.{shell}").unlink(missing_ok=True)  # running shells stop at their next prompt
    before = _read(path)
    if before is None or BEGIN not in before:
        return False
    after = _without_block(before, path)
    if not after and MADE in before:
        path.unlink()
    else:
        _write(path, after)
    return True


def _without_block(content: bytes, path: pathlib.Path) -> bytes:
    start = content.find(BEGIN)
    if start < 0:
        return content
    end = content.find(END, start)
    if end < 0:
        raise DataError(f"the block of overseer in {path} has no end; take it out by hand")
    return content[:start] + content[end + len(END) :]


def _read(path: pathlib.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _write(path: pathlib.Path, content: bytes) -> None:
    try:
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o644
        with staged_file(path) as staging:
            staging.write_bytes(content)
        path.chmod(mode)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; the hook was not changed") from error
