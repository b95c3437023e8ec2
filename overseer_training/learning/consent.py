"""Whether the owner wants interactions to be collected: one word in a file, which the hooks of the shells read too."""

from __future__ import annotations

import pathlib
from typing import Literal, get_args

from overseer_training.files import write_text
from overseer_training.guards.folders import make_private_folder

State = Literal["unasked", "on", "off", "paused"]
QUESTION = "Keep your requests and commands, encrypted on this machine, so that the model can learn from them?"


def read_consent(folder: pathlib.Path) -> State:
    """`unasked` until `write_consent` was called; whatever else stands in the file counts as `off`."""
    try:
        word = (folder / "consent").read_text().strip()
    except FileNotFoundError:
        return "unasked"
    except (OSError, UnicodeDecodeError):
        return "off"
    return next((state for state in get_args(State) if state == word), "off")


def write_consent(folder: pathlib.Path, state: State) -> None:
    """Keep `state`; hooks of running shells follow at their next prompt."""
    make_private_folder(folder)
    write_text(folder / "consent", f"{state}\n")
