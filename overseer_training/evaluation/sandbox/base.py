"""What every sandbox promises, and what a run in one leaves behind.

Takes a fixture (a packed file tree) and a command; gives an `Execution`. Does not judge: see `evaluation/compare.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Fixture:
    """A file tree to run commands in.

    Attributes:
        name: what tasks call it.
        archive: path of a tar file with the members `home/user/…`, `etc/…`, `var/…`, as seen from `/` of the sandbox.
        live: shell code that runs just before the command, for example to start processes; may be empty.
    """

    name: str
    archive: str
    live: str = ""


@dataclasses.dataclass(frozen=True)
class FileState:
    """One path after a run: `kind` is file, dir, link or other; `content` is a SHA-256 or a link's target."""

    kind: str
    mode: int
    content: str


@dataclasses.dataclass(frozen=True)
class Execution:
    """What a command did.

    Attributes:
        exit_code: of bash; 124 when it ran into the time limit.
        stdout, stderr: decoded with replacement, cut at the sandbox's output limit.
        files: path relative to `/` -> state, for everything under the writable roots.
        calls: emulated programs that were called, each as its argument vector, in order.
        processes: command lines of processes that were started by the fixture and still run.
    """

    exit_code: int
    stdout: str
    stderr: str
    files: dict[str, FileState]
    calls: tuple[tuple[str, ...], ...] = ()
    processes: tuple[str, ...] = ()
    timed_out: bool = False


class Sandbox(Protocol):
    """Runs commands so that nothing outside changes: no network, no privileges, bounded time, memory, disk and processes."""

    name: str

    def build_fixture(self, name: str, script: str, live: str = "") -> Fixture:
        """Run `script` in an empty home directory and pack what it built.

        Raises:
            SandboxError: the script failed; the message has its last error line.
        """
        ...

    def run(self, fixture: Fixture, command: str, *, before: tuple[str, ...] = ()) -> Execution:
        """Run `command` with bash in a fresh copy of `fixture`, after the commands in `before`, whose output is dropped."""
        ...

    def has_program(self, program: str) -> bool:
        """Whether `program` can be called in this sandbox, for real or emulated."""
        ...
