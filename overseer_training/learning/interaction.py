"""One thing that the owner asked for or ran, as it is stored and learned from."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib

from overseer_training.guards.folders import state_folder

SIMILAR = 0.6  # of the letters of two commands, by difflib; chosen: a mended option or name stays above it
# Exit codes that say "nothing found" or "differs", and those of Ctrl-C, Ctrl-Z, a closed terminal and SIGTERM.
NO_FAILURE = {1: {"grep", "egrep", "fgrep", "rg", "ag", "diff", "cmp", "test", "[", "[[", "pgrep", "fd", "which"}}
STOPPED = {129, 130, 137, 141, 143, 146, 147, 148}


@dataclasses.dataclass(frozen=True)
class Interaction:
    """A request, a command that was run, or both.

    Attributes:
        time: seconds since 1970; 0 where it is not known.
        source: `ask`, `shell`, `history` or `table`.
        request: what was asked for; empty for a command typed in a shell.
        proposal: the command that the model gave.
        command: the command that was run; empty if none is known.
        stderr: the first lines of the error message.
        feedback: 1 liked, -1 disliked, 0 nothing was said.
        session: of the shell; requests of a shell with a hook have the same.
        id: in the store; 0 before it is stored.
    """

    time: float
    source: str
    request: str = ""
    proposal: str = ""
    command: str = ""
    exit_code: int | None = None
    stderr: str = ""
    directory: str = ""
    shell: str = ""
    feedback: int = 0
    session: str = ""
    id: int = 0

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0

    @property
    def failed(self) -> bool:
        """Whether the command went wrong: not stopped by its owner, and no search that found nothing."""
        if self.exit_code in (None, 0) or self.exit_code in STOPPED or not self.command:
            return False
        program = self.command.removeprefix("sudo ").split()[0] if self.command.split() else ""
        return program not in NO_FAILURE.get(self.exit_code or 0, set())


def similarity(left: str, right: str) -> float:
    """Share of letters that two commands have in common, 0 to 1."""
    return difflib.SequenceMatcher(None, left, right, autojunk=False).ratio()


def learning_folder() -> pathlib.Path:
    """Where this user's interactions are kept; it may not exist."""
    return state_folder() / "learning"
