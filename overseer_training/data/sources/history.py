"""The owner's shell history: which commands of the corpus they really use, with the names of their own files, hosts and services.

Takes the histories of bash, zsh and fish and the database of atuin; gives `Example`s. A history has commands and no requests, so a
command counts only where it has the form of a family that is trained on; the family's wordings are filled with the owner's values.
Commands that hold a secret are left out before anything else looks at them.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import sqlite3
from collections.abc import Iterator, Sequence

from overseer_training.data.sources.corpus import SLOT, Family, fill, form_of
from overseer_training.errors import DataError
from overseer_training.guards.secrets import find_secret
from overseer_training.records import Example, Turn

SOURCE = "history"  # as the policy calls it: such rows are encrypted
WORDINGS_EACH = 4  # of a command that was found; chosen, so that a habit does not crowd out the rest
VALUE = r"[^\s'\"|;&<>()$`*?\\]+"
ZSH_ENTRY = re.compile(r"^: \d+:\d+;")
FISH_ESCAPE = re.compile(r"\\([\\n])")
META = 0x83  # zsh writes a byte above 0x82 as this one and the byte with bit 5 flipped


@dataclasses.dataclass(frozen=True)
class History:
    """One shell's history on this machine; `path` exists."""

    shell: str
    path: pathlib.Path


def find_histories(home: pathlib.Path | None = None) -> list[History]:
    """The histories of this user."""
    home = home or pathlib.Path.home()
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    places = (
        History("bash", home / ".bash_history"),
        History("zsh", home / ".zsh_history"),
        History("fish", data / "fish/fish_history"),
        History("atuin", data / "atuin/history.db"),
    )
    return [history for history in places if history.path.is_file()]


def read_commands(history: History) -> list[str]:
    """Its one-line commands without secrets, each once, oldest first.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if history.shell == "atuin":
            commands = _atuin(history.path)
        else:
            reader = {"bash": _bash, "zsh": _zsh, "fish": _fish}[history.shell]
            commands = list(reader(history.path.read_bytes()))
    except (OSError, sqlite3.Error) as error:
        raise DataError(f"the history {history.path} cannot be read: {error}") from error
    stripped = (command.strip() for command in commands)
    return list(dict.fromkeys(c for c in stripped if c and "\n" not in c and find_secret(c) is None))


def rows_from_commands(commands: Sequence[str], families: Sequence[Family]) -> Iterator[Example]:
    """Rows for those `commands` that have the form of a family in the training split."""
    forms: dict[str, list[tuple[re.Pattern[str], Family]]] = {}
    for family in families:
        names = set(family.slots[0])
        said = {slot for wording in family.wordings for slot in SLOT.findall(wording)} & names
        in_command = set(SLOT.findall(family.command)) & names
        if family.split == "train" and family.platform != "macos" and in_command and said <= in_command:
            forms.setdefault(family.command.removeprefix("sudo ").split()[0], []).append(
                (form_of(family, VALUE), family)
            )
    for number, command in enumerate(commands):
        words = re.sub(r"^sudo\s+", "", command).split()
        for form, family in forms.get(words[0], []) if words else ():
            match = form.fullmatch(command)
            if match is None:
                continue
            binding = match.groupdict()
            for place in range(min(WORDINGS_EACH, len(family.wordings))):
                wording = family.wordings[(number + place * 5) % len(family.wordings)]
                turns = (Turn("user", fill(wording, binding)), Turn("assistant", fill(family.command, binding)))
                yield Example(f"history/{number}/{family.name}/{place}", family.name, "command", turns, "linux", SOURCE)


def _bash(content: bytes) -> Iterator[str]:
    for line in content.decode("utf-8", "replace").split("\n"):
        if not re.fullmatch(r"#\d{9,}", line):  # a time stamp, with HISTTIMEFORMAT
            yield line


def _zsh(content: bytes) -> Iterator[str]:
    plain, flip = bytearray(), False
    for byte in content:
        if byte == META:
            flip = True
        else:
            plain.append(byte ^ 32 if flip else byte)
            flip = False
    for entry in re.split(r"(?<!\\)\n", plain.decode("utf-8", "replace")):
        yield ZSH_ENTRY.sub("", entry)


def _fish(content: bytes) -> Iterator[str]:
    for line in content.decode("utf-8", "replace").split("\n"):
        if line.startswith("- cmd: "):
            yield FISH_ESCAPE.sub(lambda match: "\n" if match[1] == "n" else "\\", line.removeprefix("- cmd: "))


def _atuin(path: pathlib.Path) -> list[str]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [row[0] for row in connection.execute("select command from history where exit = 0 order by timestamp")]
    finally:
        connection.close()
