"""What programs can do harm with, by area: a rule looks at what a call does to which place, never at how it is written.

Takes a `Call` with its wrappers (sudo, xargs …) already taken off; `dangers_of` gives the verdicts of all rules that know the program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import READS_DEVICES, SHELLS, operands_of
from overseer_training.guards.places import DEVICE, HISTORY, MEMORY, RIGHTS, SECRET, SHARED, place_of
from overseer_training.guards.rules import (  # noqa: F401  (each registers its rules)
    databases,
    disks,
    machine,
    network,
    packages,
    platforms,
    programs,
    projects,
    removal,
    rights,
    writing,
)
from overseer_training.guards.rules.register import RULES
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask

# These look at a secret's name or mode only, use it as it is meant to be, or have rules of their own for it.
MAY_SEE_SECRETS = {
    *(
        "ls",
        "stat",
        "file",
        "test",
        "[",
        "chmod",
        "chown",
        "chgrp",
        "mkdir",
        "cd",
        "pushd",
        "rm",
        "shred",
        "mv",
        "cp",
        "ln",
        "touch",
    ),
    *(
        "ssh",
        "ssh-add",
        "ssh-keygen",
        "ssh-copy-id",
        "scp",
        "sftp",
        "rsync",
        "gpg",
        "kubectl",
        "find",
        "du",
        "tree",
        "getfacl",
        "tar",
    ),
    *(
        "vim",
        "vi",
        "nvim",
        "nano",
        "code",
        "emacs",
        "cat",
        "less",
        "head",
        "tail",
        "grep",
        "pass",
        "keepassxc",
        "keepassxc-cli",
        "echo",
    ),
    *(
        "printf",
        "git",
        "docker",
        "podman",
        "install",
        "setfacl",
        "chattr",
        "trash",
        "unlink",
        "realpath",
        "readlink",
        "stow",
        "wc",
        "bat",
    ),
}
LOOKS_AT_RIGHTS = {
    *(
        "cat",
        "less",
        "head",
        "tail",
        "grep",
        "awk",
        "sed",
        "cut",
        "ls",
        "stat",
        "wc",
        "sort",
        "diff",
        "visudo",
        "vim",
        "nano",
        "sudoedit",
    ),
    *(
        "getfacl",
        "file",
        "test",
        "[",
        "echo",
        "printf",
        "cp",
        "tee",
        "vi",
        "nvim",
        "bat",
        "more",
        "find",
        "md5sum",
        "sha256sum",
        "lsattr",
    ),
}


def dangers_of(call: Call, folder: str) -> Iterator[Verdict]:
    """All verdicts of the rules for one call; none where no rule knows of a danger."""
    if call.texts in (("--help",), ("--version",), ("-h",), ("-V",)):
        return
    name = call.name
    family = re.sub(r"[\d.]+$", "", name)
    found = [*RULES.get(name, ()), *(RULES.get(family, ()) if family != name else ())]
    if re.match(r"mkfs\.|newfs_", name):
        found = [disks.makes_file_system]
    for function in dict.fromkeys(found):
        yield from function(call, folder)
    if name not in MAY_SEE_SECRETS:
        yield from _secrets(call, folder)
    if not found or name in LOOKS_AT_RIGHTS:
        yield from _touches(call, folder)
    for redirect in call.redirects:
        yield from writing.redirected(redirect, call, folder)
    for variable, value in call.assignments:
        yield from machine.assigned(variable, value.text, value.is_certain)
    yield from disks.fills(call, folder)
    first = operands_of(call)[:1]
    if (call.name in SHELLS | {"source", "."}) and first and SHARED.match(place_of(first[0], folder).path):
        yield ask("it runs a file from a folder that everybody can write to")
    elif SHARED.match(call.words[0].text) and not call.words[0].text.endswith("/"):
        yield ask("it starts a program from a folder that everybody can write to")


def _secrets(call: Call, folder: str) -> Iterator[Verdict]:
    for word in operands_of(call):
        path = place_of(word, folder).path
        if SECRET.fullmatch(path) and not HISTORY.fullmatch(path):
            yield ask(f"{call.name} gets the secret {word.shown}")


def _touches(call: Call, folder: str) -> Iterator[Verdict]:
    """Programs that nobody knows may look at what they like, but not be handed a disk or what decides who may do what."""
    for word in operands_of(call):
        place = place_of(word, folder)
        if (DEVICE.fullmatch(place.path) or MEMORY.fullmatch(place.path)) and call.name not in READS_DEVICES:
            yield ask(f"{call.name} is handed the device {word.shown}")
        elif RIGHTS.fullmatch(place.path) and call.name not in LOOKS_AT_RIGHTS:
            yield ask(f"{word.shown} decides who may do what")
