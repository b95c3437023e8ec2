"""Decides whether a proposed command did the same as a reference: same files, same output, same calls.

Takes two or three `Execution`s of one fixture; gives a `Verdict`. Runs nothing.
"""

from __future__ import annotations

import dataclasses
import re

from overseer_training.evaluation.sandbox import Execution

# Programs that list in the order of the directory or the kernel; without a later sort, their order means nothing.
UNORDERED = re.compile(r"(^|[|;&(`]\s*)(sudo\s+)?(find|du|locate|lsof|grep\s+(-\w*[rR]|--recursive)|rg|fd|xargs)\b")
ORDERING = re.compile(r"\b(sort|tac|head|tail|uniq|shuf|nl|sed|awk)\b|cat -n")
NUMBER = re.compile(r"\d+")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether two commands did the same, and if not, what differed first."""

    equal: bool
    reason: str


def is_ordered(command: str) -> bool:
    """Whether the order of the lines that `command` prints is part of its answer."""
    return not UNORDERED.search(command) or bool(ORDERING.search(command))


def normalize_output(text: str, *, ordered: bool = True, numbers: bool = True) -> list[str]:
    """Lines of `text` without what nobody asks for: blanks at the ends, runs of blanks, `./` before paths, empty lines.

    Args:
        ordered: False sorts the lines.
        numbers: False masks digits, for output that differs between two runs of the same command (times, process ids).
    """
    lines = [re.sub(r"(^|(?<=\s))\./(?=\S)", "", re.sub(r"\s+", " ", line).strip()) for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not numbers:
        lines = [NUMBER.sub("#", line) for line in lines]
    return lines if ordered else sorted(lines)


def normalize_calls(execution: Execution) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Calls of emulated programs as (program, sorted options, operands); `-it` counts as `-i -t`."""
    calls = []
    for _, program, *arguments in execution.calls:
        options: list[str] = []
        operands: list[str] = []
        for argument in arguments:
            if re.fullmatch(r"-[A-Za-z]{2,3}", argument):
                options += [f"-{letter}" for letter in argument[1:]]
            elif argument.startswith("-") and argument != "-":
                options.append(argument)
            else:
                operands.append(argument)
        calls.append((program, tuple(sorted(options)), tuple(operands)))
    return calls


def compare(command: str, reference: Execution, proposal: Execution, again: Execution | None = None) -> Verdict:
    """Compare what `proposal` did with what the reference `command` did.

    Args:
        again: a second run of the reference. Where its output differs from the first, numbers are masked in all outputs;
            where its files differ from the first (a compressed file carries a time), only those paths' contents are ignored.
    """
    if proposal.timed_out and not reference.timed_out:
        return Verdict(False, "ran into the time limit")
    unstable = {path for path, state in again.files.items() if reference.files.get(path) != state} if again else set()
    for path in sorted(reference.files.keys() | proposal.files.keys()):
        left, right = reference.files.get(path), proposal.files.get(path)
        if left is None or right is None:
            return Verdict(False, f"{path}: {'should not exist' if left is None else 'is missing'}")
        if (left.kind, left.mode) != (right.kind, right.mode):
            return Verdict(False, f"{path}: {right.kind} {right.mode:o} instead of {left.kind} {left.mode:o}")
        if left.content != right.content and path not in unstable:
            return Verdict(False, f"{path}: other content")
    if normalize_calls(reference) != normalize_calls(proposal):
        return Verdict(False, "called other programs or with other arguments")
    if reference.processes != proposal.processes:
        return Verdict(False, "other processes still run")
    ordered = is_ordered(command)
    numbers = again is None or again.stdout == reference.stdout
    expected = normalize_output(reference.stdout, ordered=ordered, numbers=numbers)
    found = normalize_output(proposal.stdout, ordered=ordered, numbers=numbers)
    if expected != found:
        return Verdict(False, "other output")
    if not expected and not reference.calls and (reference.exit_code == 0) != (proposal.exit_code == 0):
        return Verdict(False, f"exit code {proposal.exit_code} instead of {reference.exit_code}")
    return Verdict(True, "same files, output and calls")
