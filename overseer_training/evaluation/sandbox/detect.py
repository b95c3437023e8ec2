"""Chooses the sandbox of this machine, or says why there is none."""

from __future__ import annotations

import functools

from overseer_training.errors import SandboxError
from overseer_training.evaluation.sandbox.base import Sandbox
from overseer_training.evaluation.sandbox.bubblewrap import BubblewrapSandbox


@functools.cache
def find_sandbox() -> Sandbox:
    """A sandbox that was seen to run a command on this machine.

    Raises:
        SandboxError: none works here; the message says what to install.
    """
    sandbox = BubblewrapSandbox()
    probe = sandbox.run(sandbox.build_fixture("probe", "echo fine > probe.txt"), "cat probe.txt")
    if probe.stdout != "fine\n":
        raise SandboxError(f"the sandbox cannot run commands here: {probe.stderr.strip() or 'no output'}")
    return sandbox
