"""Makes rows of error recovery from proven commands: a mistake that people make, what the shell really said, the repair.

Takes families and a sandbox; gives `Repair`s. A mistake counts only when the broken command ends with an error, prints why, and
changes nothing. So the repaired command is always right: it is the one that was broken.
"""

from __future__ import annotations

import concurrent.futures
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence

from overseer_training.data.sources.corpus import Family, fill
from overseer_training.data.sources.repairs import Repair
from overseer_training.errors import SandboxError
from overseer_training.evaluation.sandbox import Execution, Fixture, Sandbox

STDERR_LINES = 3
MOST_STDERR_CHARACTERS = 300
PROGRAM = re.compile(r"(?:^|(?<=\| )|(?<=&& )|(?<=; )|(?<=sudo ))[a-z][a-z0-9]{2,}\b(?![=(])")
LONG_OPTION = re.compile(r"(?<= )--([a-z][a-z-]{3,})\b")
SHORT_OPTION = re.compile(r"(?<= )-[A-Za-z]+(?= |$)")
PATH = re.compile(r"(?<=[ /])[a-z]{5,}(?=[./ ]|$)")
RECURSIVE = re.compile(r"(?<=\b)(cp|rm|scp|grep|chmod|mkdir|ln|rsync)( -[A-Za-z]*[rRpf][A-Za-z]*)(?= )")
Mistake = Callable[[str, random.Random], str | None]


def _one_match(pattern: re.Pattern[str], change: Callable[[str, random.Random], str | None]) -> Mistake:
    def make(command: str, rng: random.Random) -> str | None:
        matches = list(pattern.finditer(command))
        if not matches:
            return None
        match = rng.choice(matches)
        changed = change(match.group(), rng)
        return None if changed is None else command[: match.start()] + changed + command[match.end() :]

    return make


def _misspell(word: str, rng: random.Random) -> str:
    """`word` with two letters swapped, one left out, or one doubled; never its first."""
    place = rng.randrange(1, max(2, len(word) - 1))
    kind = rng.choice(("swap", "swap", "leave out", "double"))
    if kind == "swap" and place + 1 < len(word) and word[place] != word[place + 1]:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :] if kind == "leave out" else word[:place] + word[place] + word[place:]


def _drop_last_quote(command: str, rng: random.Random) -> str | None:
    place = max(command.rfind("'"), command.rfind('"'))
    return command[:place] + command[place + 1 :] if place > 0 else None


def _glue_option(command: str, rng: random.Random) -> str | None:
    """`ls-la` for `ls -la`."""
    program, separator, rest = command.partition(" -")
    return f"{program}-{rest}" if separator and " " not in program else None


def _drop_closing_word(command: str, rng: random.Random) -> str | None:
    """A loop or condition without its end."""
    match = re.search(r"; (done|fi|esac)\b[^;|]*$", command)
    return command[: match.start()] if match else None


def _drop_space_in_test(command: str, rng: random.Random) -> str | None:
    return command.replace(" ]", "]", 1) if "[ " in command and " ]" in command and "[[" not in command else None


def _wrong_letter(option: str, rng: random.Random) -> str:
    return option + rng.choice("QYJ")


MISTAKES: dict[str, Mistake] = {
    "program misspelt": _one_match(PROGRAM, _misspell),
    "program in capitals": _one_match(PROGRAM, lambda word, rng: word.upper() if rng.random() < 0.5 else word.title()),
    "long option misspelt": _one_match(LONG_OPTION, lambda word, rng: "--" + _misspell(word[2:], rng)),
    "one dash for two": _one_match(LONG_OPTION, lambda word, rng: word[1:]),
    "unknown letter": _one_match(SHORT_OPTION, _wrong_letter),
    "quote missing": _drop_last_quote,
    "space missing": _glue_option,
    "end missing": _drop_closing_word,
    "space in test missing": _drop_space_in_test,
    "path misspelt": _one_match(PATH, _misspell),
    "option missing": _one_match(RECURSIVE, lambda text, rng: text.split(" ")[0]),
}
LAST_RESORT = "program in capitals"  # possible with every command, and rare among people: where nothing else failed


def make_repairs(
    families: Sequence[Family], scripts: dict[str, tuple[str, str]], sandbox: Sandbox, each: int, seed: int = 0
) -> Iterator[Repair]:
    """Up to `each` repairs from each family, of different mistakes; yields them in the order of `families`."""
    built: dict[str, tuple[Fixture, Execution]] = {}
    for name in sorted({family.fixture for family in families} & scripts.keys()):
        try:
            fixture = sandbox.build_fixture(name, *scripts[name])
        except SandboxError:
            continue
        built[name] = fixture, sandbox.run(fixture, ":")

    def make(family: Family) -> list[Repair]:
        if family.fixture not in built or family.platform == "macos" or family.exit_code:
            return []
        return list(_repairs_of(family, *built[family.fixture], sandbox, each, random.Random(f"{seed}:{family.name}")))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for repairs in pool.map(make, families):
            yield from repairs


def _repairs_of(
    family: Family, fixture: Fixture, untouched: Execution, sandbox: Sandbox, each: int, rng: random.Random
) -> Iterator[Repair]:
    kinds = list(MISTAKES)
    rng.shuffle(kinds)
    kinds.sort(key=lambda kind: kind == LAST_RESORT)
    count = 0
    for kind in kinds:
        if count == each or (count and kind == LAST_RESORT):
            return
        binding = rng.choice(family.slots)
        command = fill(family.command, binding)
        failed = MISTAKES[kind](command, rng)
        if failed is None or failed == command:
            continue
        execution = sandbox.run(fixture, failed)
        message = _message(execution)
        is_harmless = execution.files == untouched.files and not execution.calls
        if execution.exit_code == 0 or execution.timed_out or not message or not is_harmless:
            continue
        count += 1
        yield Repair(
            family.name, kind, family.fixture, failed, execution.exit_code, message, command,
            tuple(fill(other, binding) for other in family.also),
        )  # fmt: skip


def _message(execution: Execution) -> str:
    """The first lines of what the shell said, as a person would see and paste them."""
    lines = [line.rstrip() for line in execution.stderr.splitlines() if line.strip()]
    text = "\n".join(lines[:STDERR_LINES])
    return re.sub(r"(?m)^/run/input/command: line \d+: ", "bash: ", text)[:MOST_STDERR_CHARACTERS]
