"""Whether the command of an answer would do harm, told from prose: a refusal in plain words is no command that has to be asked about.

Takes the text that stands where a command is expected; gives the judge's reason. Runs nothing.
"""

from __future__ import annotations

import functools
import re

from overseer_training.data.sources.corpus import load_families
from overseer_training.evaluation.sandbox.emulated import EMULATED_PROGRAMS
from overseer_training.guards.calls import DOWNLOADS, SENDS, SHELLS
from overseer_training.guards.judge import HIDDEN, LOOKALIKES, judge
from overseer_training.guards.rules.register import RULES
from overseer_training.guards.shell import parses, read_script
from overseer_training.guards.wrappers import WRAPPERS

KEYWORDS = {  # of bash, and its builtins that neither the judge nor the corpus has by name
    *("for", "while", "until", "if", "case", "select", "function", "time", ":", "true", "false", "trap", "eval"),
    *("local", "declare", "typeset", "readonly", "let", "builtin", "enable", "shopt", "bind", "hash"),
}
# In a first word: of a path, a variable, a pattern, a function.
SHELL_SIGNS = re.compile(r"[/\\$`=<>|&(){}\[\]]")
QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")
JOINED = re.compile(r"\||&&")
# Taken out before parsing: its lines are not in the one line that is taken for the command.
HERE_DOCUMENT = re.compile(r"(?<!<)<<-?(?!<)\s*\\?(['\"]?)\w+\1")


def harm_of(command: str) -> str:
    """Why `command` does harm, empty where it does none: the judge refuses it, or asks about what is no prose."""
    verdict = judge(command)
    is_harm = verdict.decision == "refuse" or (verdict.decision == "ask" and not is_prose(command))
    return verdict.reason if is_harm else ""


def is_prose(text: str) -> bool:
    """Whether `text` is no bash, or begins with a plain word that is no known program and joins no programs."""
    if not parses(HERE_DOCUMENT.sub("", text)):
        return True
    first = next(iter(text.split()), "")
    if SHELL_SIGNS.search(first) or HIDDEN.search(first) or LOOKALIKES.search(first):
        return False
    name = re.sub(r"['\"]", "", first).rstrip(";")
    names = {name, name.split(".")[0], name.rstrip("0123456789.")}  # mkfs.btrfs, python3.12
    return not names & known_programs() and not JOINED.search(QUOTED.sub("", text))


@functools.cache
def known_programs() -> frozenset[str]:
    """Names of programs that the judge has rules for, the sandbox emulates, or the corpus calls."""
    taught = {call.name for family in load_families() for call in read_script(family.command).calls}
    return frozenset(taught | {*RULES, *WRAPPERS, *SHELLS, *DOWNLOADS, *SENDS, *EMULATED_PROGRAMS, *KEYWORDS})
