"""Decides whether a proposed command did the same as a reference: same files, same output, same calls.

Takes two or three `Execution`s of one fixture; gives a `Verdict`. Runs nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence

from overseer_training.evaluation.sandbox import Execution

# Programs that list in the order of the directory or the kernel; without a later sort, their order means nothing.
UNORDERED = re.compile(
    r"(?:^|[|;&(`{!]\s*|\b(?:do|then|else|time)\s+)(?:sudo\s+)?"
    r"(?:(?:find|du|locate|plocate|lsof|rg|fd)\b|[ef]?grep\s(?:[^|;&]*\s)?(?:-[A-Za-z]*[rR]|--(?:dereference-)?recursive\b)"
    r"|xargs\s(?:[^|;&]*\s)?(?:-P|--max-procs)|awk\b[^|]*\bfor\s*\(\s*\w+\s+in\b)"
)
SORTING = re.compile(r"\|\s*(?:sudo\s+)?sort\b")
OPTION_SIGNS = {"dig": ("-", "+")}  # `dig NAME +short`; `-` where a program is not named
SHORT_WITH_NUMBER = re.compile(r"(-[A-Za-z])(\d+)")  # -n50
LONG_WITH_VALUE = re.compile(r"(--[A-Za-z][\w-]*)=(.*)", re.DOTALL)
NUMBER = re.compile(r"\d[\d.,]*")  # 1,234.5 as a whole: its length changes with its value


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether two commands did the same, and if not, what differed first."""

    equal: bool
    reason: str


def is_ordered(command: str) -> bool:
    """Whether the order of the lines that `command` prints is part of its answer."""
    producers = list(UNORDERED.finditer(command))
    return not producers or bool(SORTING.search(command, producers[-1].end()))


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


def normalize_calls(
    execution: Execution, *, values_apart: bool = True
) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Calls of emulated programs as (program, sorted options, operands).

    `-it` counts as `-i -t`, `-n50` as `-n 50`.

    Args:
        values_apart: `--name=web` counts as `--name web`; otherwise it is one option, and may stand behind operands.
    """
    calls = []
    for _, program, *arguments in execution.calls:
        words = _split_arguments(program, arguments, values_apart)
        options = sorted(word for word, is_option in words if is_option)
        calls.append((program, tuple(options), tuple(word for word, is_option in words if not is_option)))
    return calls


def calls_agree(reference: Execution, proposal: Execution) -> bool:
    """Whether both made the same calls in the same order, and no value moved to another option (`-g a -G b`, `-G a -g b`).

    An option with its value may stand anywhere among the operands: `mount A B -t ext4`, `mount -t ext4 A B`.
    """
    if any(_calls_agree(reference, proposal, values_apart) for values_apart in (True, False)):
        return True
    pairs = zip(reference.calls, proposal.calls, strict=False)
    return len(reference.calls) == len(proposal.calls) and all(
        _call_agrees(left[1:], right[1:]) for left, right in pairs
    )


def _call_agrees(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two calls (program, arguments) are the same but for the places of options, those that both have before the same word with it."""
    words = [_split_arguments(program, arguments, values_apart=True) for program, *arguments in (left, right)]
    shared = _values_of(words[0]) & _values_of(words[1])
    rests = [_without(side, shared) for side in words]
    options, operands = (
        [[word for word, is_option in rest if is_option == wanted] for rest in rests] for wanted in (True, False)
    )
    is_same = left[0] == right[0] and sorted(options[0]) == sorted(options[1]) and operands[0] == operands[1]
    return is_same and _values_stay(*rests)


def _values_of(words: Sequence[tuple[str, bool]]) -> collections.Counter[tuple[str, str]]:
    """Options with the operands right behind them: some of these are their values."""
    following = itertools.pairwise(words)
    return collections.Counter((first, second) for (first, one), (second, other) in following if one and not other)


def _without(words: Sequence[tuple[str, bool]], pairs: collections.Counter[tuple[str, str]]) -> list[tuple[str, bool]]:
    remaining, kept, is_value = collections.Counter(pairs), [], False
    for (word, is_option), (following, _) in zip(words, [*words, ("", False)][1:], strict=True):
        if is_value:
            is_value = False
        elif is_option and remaining[word, following] > 0:
            remaining[word, following] -= 1
            is_value = True
        else:
            kept.append((word, is_option))
    return kept


def _calls_agree(reference: Execution, proposal: Execution, values_apart: bool) -> bool:
    if normalize_calls(reference, values_apart=values_apart) != normalize_calls(proposal, values_apart=values_apart):
        return False
    return all(
        _values_stay(*(_split_arguments(call[1], call[2:], values_apart) for call in calls))
        for calls in zip(reference.calls, proposal.calls, strict=True)
    )


def _values_stay(left: Sequence[tuple[str, bool]], right: Sequence[tuple[str, bool]]) -> bool:
    """Whether no operand, of which both have the same, stands behind another option on the other side."""
    pairs = zip(_options_before(left), _options_before(right), strict=True)
    return all(not one or not other or one & other for one, other in pairs)


def _split_arguments(program: str, arguments: Sequence[str], values_apart: bool) -> list[tuple[str, bool]]:
    """Words with whether each is an option; options that share a word, or hold their value, are taken apart."""
    signs = OPTION_SIGNS.get(program, ("-",))
    words: list[tuple[str, bool]] = []
    for argument in arguments:
        pair = SHORT_WITH_NUMBER.fullmatch(argument)
        if values_apart:
            pair = pair or LONG_WITH_VALUE.fullmatch(argument)
        if re.fullmatch(r"-[A-Za-z]{2,3}", argument):
            words += [(f"-{letter}", True) for letter in argument[1:]]
        elif pair:
            words += [(pair.group(1), True), (pair.group(2), False)]
        else:
            words.append((argument, argument.startswith(signs) and argument not in signs))
    return words


def _options_before(words: Sequence[tuple[str, bool]]) -> list[set[str]]:
    """For each operand, the options right before it; one of them may take it as its value."""
    before: list[set[str]] = []
    options: set[str] = set()
    for word, is_option in words:
        if is_option:
            options.add(word)
        else:
            before.append(options)
            options = set()
    return before


def compare(
    command: str,
    reference: Execution,
    proposal: Execution,
    again: Execution | None = None,
    untouched: Execution | None = None,
) -> Verdict:
    """Compare what `proposal` did with what the reference `command` did.

    Args:
        again: a second run of the reference. Where its output differs from the first, numbers are masked in all outputs;
            where its lines come in another order, their order is ignored; where its files differ from the first (a
            compressed file carries a time), only those paths' contents are ignored.
        untouched: a run of `:`. The exit code counts where a reference prints, calls and changes nothing; without this,
            where it prints and calls nothing.
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
    if not calls_agree(reference, proposal):
        return Verdict(False, "called other programs or with other arguments")
    if reference.processes != proposal.processes:
        return Verdict(False, "other processes still run")
    ordered, numbers = is_ordered(command), True
    if again is not None and again.stdout != reference.stdout:
        first, second = (normalize_output(text) for text in (reference.stdout, again.stdout))
        ordered = ordered and not (first != second and sorted(first) == sorted(second))
        numbers = sorted(first) == sorted(second)
    expected = normalize_output(reference.stdout, ordered=ordered, numbers=numbers)
    found = normalize_output(proposal.stdout, ordered=ordered, numbers=numbers)
    if expected != found:
        return Verdict(False, "other output")
    is_visible = expected or reference.calls or (untouched is not None and untouched.files != reference.files)
    if not is_visible and (reference.exit_code == 0) != (proposal.exit_code == 0):
        return Verdict(False, f"exit code {proposal.exit_code} instead of {reference.exit_code}")
    return Verdict(True, "same files, output and calls")
