"""Every error that a person may see, and the exit code of each.

    OverseerError (1)                something failed that has no better name below
    ├── UsageError (2)               flags, configuration or paths that cannot be honoured
    │   ├── ConfigError              one message that lists every problem of a plan
    │   └── NotAvailableError        asked for something this machine or this version does not have
    ├── DataError (3)                rows, corpora, suites or fixtures that cannot be read
    │   └── PreflightError           training rows that would teach the wrong thing
    ├── ModelError (4)               weights that are missing, damaged, unsafe or of an unknown kind
    │   └── CheckpointError          no checkpoint passes verification
    ├── MemoryLimitError (5)         stopped at a memory limit, after a checkpoint where there was one to save
    ├── TrainingError (6)            the run itself went wrong: non-finite loss, disk full
    │   └── LostProcessError         another process that trains the same model ended
    ├── SandboxError (7)             commands cannot be run safely here
    └── TeacherError (8)             a teacher cannot be used, or did not answer; see teachers/protocol.py

130 and 143 are the shell's codes for Ctrl-C and SIGTERM: the run saved a checkpoint and left.
A message says what was asked, what was found and what to do next, in one line.
"""

from __future__ import annotations


class OverseerError(Exception):
    """Base of all errors with a message for people; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(OverseerError):
    """What was asked for cannot be honoured."""

    exit_code = 2


class ConfigError(UsageError):
    """A plan with problems; all of them are in the message."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(problems[0] if len(problems) == 1 else f"{len(problems)} problems: " + "; ".join(problems))


class NotAvailableError(UsageError):
    """This machine, or this version, does not have what was asked for."""


class DataError(OverseerError):
    """Rows, corpora, suites or fixtures that cannot be read."""

    exit_code = 3


class PreflightError(DataError):
    """Training rows that would teach the wrong thing."""


class ModelError(OverseerError):
    """Weights that are missing, damaged, unsafe or of an unknown kind."""

    exit_code = 4


class CheckpointError(ModelError):
    """No checkpoint passes verification."""


class MemoryLimitError(OverseerError):
    """Stopped at a memory limit."""

    exit_code = 5


class TrainingError(OverseerError):
    """The run itself went wrong."""

    exit_code = 6


class LostProcessError(TrainingError):
    """Another process that trains the same model ended, or cannot be reached."""


class SandboxError(OverseerError):
    """Commands cannot be run safely on this machine."""

    exit_code = 7
