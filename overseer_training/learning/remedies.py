"""What helped this machine before, in the words in which people ask for it.

Takes improvements; gives requests for each, and why a command is no answer to any. Whether it is safe is decided where rows are made.
"""

from __future__ import annotations

import itertools
import re

from overseer_training.guards.calls import REMOVES, operands_of
from overseer_training.guards.shell import Call, read_script
from overseer_training.guards.wrappers import unwrap
from overseer_training.learning.effects import Improvement

# {level} is the metric before, rounded down: to tens of percent, or to whole processes.
WORDINGS = {
    "disk_percent": (
        "the disk is nearly full, what can I do here?",
        "the disk is over {level} % full, what helped last time?",
        "free some disk space on this machine",
        "what made room on the disk before?",
        "running out of disk space, what do I usually do about it?",
        "disk usage is above {level} %, bring it down",
    ),
    "memory_percent": (
        "memory is nearly used up, what can I do here?",
        "memory is over {level} %, what helped last time?",
        "get some memory back on this machine",
        "what brought memory use down before?",
        "the machine is running out of RAM, what do I usually do about it?",
        "RAM usage is above {level} %, bring it down",
    ),
    "swap_percent": (
        "the machine is swapping, what can I do here?",
        "swap is over {level} % used, what helped last time?",
        "get swap use down on this machine",
        "what emptied the swap before?",
        "swap fills up, what do I usually do about it?",
    ),
    "load_1m": (
        "the load is too high, what can I do here?",
        "the load is over {level}, what helped last time?",
        "calm this machine down, it is overloaded",
        "what brought the load down before?",
        "everything is slow because of the load, what do I usually do about it?",
    ),
}
NUMBERS_PROCESSES = {"kill", "renice", "taskset", "ionice", "chrt"}
NAMES_FILES = REMOVES | {"rmdir", "truncate", "gzip", "bzip2", "xz", "zstd", "mv", "find"}
WORKS_HERE = {"make", "cargo", "git", "gradle", "mvn", "ninja", "docker-compose", "terraform", "vagrant"}
WORKS_HERE_WITH = {"npm": "run", "yarn": "run", "pnpm": "run", "docker": "compose", "podman": "compose"}
ANYWHERE = re.compile(r"[/~$]|[-+]?\d+[a-zA-Z]?$")  # a path that is the same in every directory, or a number


def requests_for(improvement: Improvement) -> list[str]:
    """What a person might ask when the same happens again."""
    before = improvement.before
    level = int(before // 10 * 10) if improvement.metric.endswith("_percent") else int(before)
    return [wording.format(level=level) for wording in WORDINGS[improvement.metric]]


def why_not_again(command: str) -> str | None:
    """Why `command` cannot be the answer another time; None where it can."""
    for call in read_script(command).calls:
        while (inner := unwrap(call)) is not None:
            call = inner
        if call.name in NUMBERS_PROCESSES and any(re.fullmatch(r"%?\d+|%\S*", word.text) for word in operands_of(call)):
            return "names a process by a number, which is another one next time"
        if _depends_on_directory(call):
            return "means something else in another directory"
    return None


def _depends_on_directory(call: Call) -> bool:
    if call.name in WORKS_HERE or any(word.text.startswith(".") for word in call.words[:1]):
        return True
    if call.name in WORKS_HERE_WITH:
        return call.texts[:1] == (WORKS_HERE_WITH[call.name],)
    if call.name not in NAMES_FILES:
        return False
    if call.name == "find":  # places stand before conditions
        places = list(itertools.takewhile(lambda text: not text.startswith(("-", "(", "!")), call.texts))
    else:
        places = [word.text for word in operands_of(call)]
    return not places or not all(map(ANYWHERE.match, places))
