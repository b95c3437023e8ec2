"""Interactions -> rows to learn from: requests with the command that was really run, failures with what mended them, what helped.

Takes interactions and improvements; gives `Personal` rows, split by time, and what was set aside with the reason. Only what succeeded or
was liked is kept, and only where the judge allows it, it parses as bash and holds no secret. Runs nothing and asks no model.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence

from overseer_training.data.clean import parses
from overseer_training.data.sources.corpus import Family
from overseer_training.data.sources.history import rows_from_commands
from overseer_training.errors import DataError, NotAvailableError
from overseer_training.guards.judge import judge
from overseer_training.guards.secrets import PLACEHOLDER, find_secret
from overseer_training.guards.shell import read_script
from overseer_training.intervals import score_outcomes
from overseer_training.learning.consent import State
from overseer_training.learning.effects import Improvement
from overseer_training.learning.interaction import SIMILAR, Interaction, similarity
from overseer_training.learning.remedies import requests_for, why_not_again
from overseer_training.prompts import REPAIR_REQUEST
from overseer_training.records import Example, Platform, Score, Turn

SOURCE = "interactions"
RUN_WITHIN_SECONDS = 600  # a command that is like a proposal, in the same session, is what became of it
MENDED_WITHIN_SECONDS = 300
NAME_CHARACTERS = 3
# What people run between a request and its answer; none of these is the answer unless it was proposed.
LOOKING_AROUND = {
    "cd",
    "pushd",
    "popd",
    "clear",
    "exit",
    "history",
    "man",
    "which",
    "type",
    "vim",
    "vi",
    "nano",
    "emacs",
    "code",
}
LOOKED_AT = 8  # commands of the session after a request or a failure
QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
HABIT_TIMES = 3  # chosen
HELD_OUT_SHARE = 0.2  # of personal rows, the newest


@dataclasses.dataclass(frozen=True)
class Personal:
    """Rows of the owner, oldest first.

    Attributes:
        train, held_out: no request is in both.
        preferences: (program that was proposed, program that was run instead) -> how often.
        set_aside: reason -> how many.
    """

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    preferences: dict[tuple[str, str], int]
    set_aside: dict[str, int]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    skill: str
    request: str
    command: str
    time: float
    problem: str | None


def curate(
    interactions: Sequence[Interaction],
    consent: State,
    platform: Platform = "linux",
    improvements: Sequence[Improvement] = (),
) -> Personal:
    """The rows that `interactions` give. The same request with several commands teaches the one run most often, then the newest.

    Args:
        improvements: what commands of `interactions` made better, as `effects.find_improvements` has it.

    Raises:
        NotAvailableError: the owner did not agree, or paused.
    """
    if consent != "on":
        raise NotAvailableError(
            "nothing is learned from interactions while they are not collected; to change that: overseer learn resume"
        )
    ordered = sorted(interactions, key=lambda interaction: (interaction.time, interaction.id))
    sessions: dict[str, list[Interaction]] = collections.defaultdict(list)
    for interaction in ordered:
        if interaction.source == "shell":
            sessions[interaction.session].append(interaction)
    habits = collections.Counter(_fold(i.command) for i in ordered if i.command and not i.failed)
    preferences: collections.Counter[tuple[str, str]] = collections.Counter()
    set_aside: collections.Counter[str] = collections.Counter()
    chosen: dict[tuple[str, str], list[_Candidate]] = collections.defaultdict(list)
    for candidate in (*_answered(ordered, sessions, preferences), *_mended(sessions), *_helped(improvements)):
        problem = candidate.problem or _problem(candidate)
        if problem:
            set_aside[problem] += 1
        else:
            chosen[candidate.skill, _fold(candidate.request).casefold()].append(candidate)
    rows: list[tuple[float, Example]] = []
    for number, ((skill, request), candidates) in enumerate(sorted(chosen.items())):
        counts = collections.Counter(_fold(candidate.command) for candidate in candidates)
        best = max(candidates, key=lambda c: (counts[_fold(c.command)], habits[_fold(c.command)], c.time))
        set_aside["the owner has another command for the request"] += sum(
            _fold(candidate.command) != _fold(best.command) for candidate in candidates
        )
        turns = (Turn("user", best.request), Turn("assistant", best.command))
        newest = max(candidate.time for candidate in candidates)
        rows.append((newest, Example(f"{SOURCE}/{number}", f"{SOURCE}/{request}", skill, turns, platform, SOURCE)))
    rows.sort(key=lambda row: (row[0], row[1].id))
    cut = len(rows) - round(len(rows) * HELD_OUT_SHARE)
    examples = tuple(example for _, example in rows)
    return Personal(
        examples[:cut], examples[cut:], dict(preferences), {k: n for k, n in sorted(set_aside.items()) if n}
    )


def mix(personal: Sequence[Example], corpus: Sequence[Example], share: float, seed: int) -> Iterator[Example]:
    """All rows of the corpus, so that what was known is trained on again, with personal rows among them.

    Args:
        share: of the rows that are personal; each of them comes as often as that takes.

    Raises:
        DataError: there are no personal rows.
    """
    if not personal:
        raise DataError("there is nothing to learn from yet; see: overseer learn status")
    copies = max(1, round(share / (1 - share) * len(corpus) / len(personal)))
    order = array.array("q", range(len(corpus) + copies * len(personal)))
    random.Random(seed).shuffle(order)
    return (
        corpus[number] if number < len(corpus) else personal[(number - len(corpus)) % len(personal)] for number in order
    )


def replay(own: Sequence[Example], corpus: Sequence[Example], share: float, seed: int) -> list[Example]:
    """Rows for a model that was trained before: all of `own`, with so many of the corpus among them that these are `share` of the rows.

    Skills of the corpus have parts as the roots of their numbers of rows: of 128,931 rows 958 are about safety (measured), and
    a few hundred drawn evenly would have two.

    Raises:
        DataError: there are no own rows.
    """
    if not own:
        raise DataError("there is nothing to learn from yet; see: overseer learn status")
    rng = random.Random(seed)
    rows = list(own)
    skills: dict[str, array.array[int]] = {}
    for number, example in enumerate(corpus):
        skills.setdefault(example.skill, array.array("q")).append(number)
    roots = {skill: math.sqrt(len(numbers)) for skill, numbers in skills.items()}
    wanted = len(own) * share / (1 - share)
    for skill, numbers in skills.items():
        count = min(len(numbers), round(wanted * roots[skill] / sum(roots.values())))
        rows += (corpus[number] for number in rng.sample(numbers, count))
    rng.shuffle(rows)
    return rows


def habit_rows(interactions: Iterable[Interaction], families: Sequence[Family]) -> list[Example]:
    """Rows for commands that the owner ran `HABIT_TIMES` or more, said in the words of the family that each one belongs to.

    A command that was typed has no request of its own; one that belongs to no family of the training split gives no row.
    """
    times = collections.Counter(_fold(i.command) for i in interactions if i.command and not i.failed)
    commands = [
        command
        for command, count in times.items()
        if count >= HABIT_TIMES and _problem(_Candidate("command", "", command, 0, None)) is None
    ]
    return [dataclasses.replace(row, source=SOURCE) for row in rows_from_commands(commands, families)]


def score_personal(held_out: Sequence[Example], commands: Sequence[str]) -> Score:
    """Share of held-out requests for which a model gave the owner's command; `commands` are in their order.

    The owner's files are not here to run commands on, so that words are compared: quotes and blanks do not count.
    """
    outcomes = [same_command(row.answer, command) for row, command in zip(held_out, commands, strict=True)]
    return score_outcomes(outcomes, [row.family for row in held_out])


def same_command(left: str, right: str) -> bool:
    """Whether two commands are the same calls with the same words, however they are quoted."""
    return parses(right) and _calls(left) == _calls(right)


def _calls(command: str) -> tuple[list[object], list[str]]:
    """Words and redirections of each call, and the signs between the calls."""
    calls = read_script(command).calls
    signs = re.findall(r"&&|\|\||[;&|]", QUOTED.sub("", command))
    return [
        (tuple(word.text for word in call.words), [(r.operator, r.target.text) for r in call.redirects])
        for call in calls
    ], signs


def _answered(
    ordered: Sequence[Interaction],
    sessions: dict[str, list[Interaction]],
    preferences: collections.Counter[tuple[str, str]],
) -> Iterator[_Candidate]:
    for asked in ordered:
        if not asked.request:
            continue
        ran = asked if asked.command else _became(asked, sessions.get(asked.session, []))
        command = ran.command if ran is not None else asked.proposal
        problem = None
        if not command:
            problem = "no command"
        elif asked.feedback < 0 and command == asked.proposal:
            problem = "disliked"
        elif ran is not None and ran.failed:
            problem = "failed"
        elif not (asked.feedback > 0 or (ran is not None and ran.succeeded)):
            problem = "neither run nor liked"
        elif asked.proposal and _program(asked.proposal) != _program(command):
            preferences[_program(asked.proposal), _program(command)] += 1
        yield _Candidate("command", asked.request, command, asked.time, problem)


def _became(asked: Interaction, session: Sequence[Interaction]) -> Interaction | None:
    """What was run for a proposal: the same, else what is like it or speaks of what the request names; what succeeded first."""
    later = [ran for ran in session if 0 <= ran.time - asked.time <= RUN_WITHIN_SECONDS][:LOOKED_AT]
    same = [ran for ran in later if _fold(ran.command) == _fold(asked.proposal)]
    if same:
        return same[0]
    named = _pieces(asked.request)
    fitting = [
        ran
        for ran in later
        if _program(ran.command) not in LOOKING_AROUND
        and (_is_like(asked.proposal, ran.command) or named & _pieces(ran.command))
    ]
    return next((ran for ran in fitting if ran.succeeded), fitting[0] if fitting else None)


def _pieces(text: str) -> set[str]:
    """Names in `text`: runs of letters and digits that are long enough to be one."""
    return {piece for piece in re.findall(r"\w+", text.lower()) if len(piece) >= NAME_CHARACTERS}


def _mended(sessions: dict[str, list[Interaction]]) -> Iterator[_Candidate]:
    for session in sessions.values():
        for position, failed in enumerate(session):
            if not failed.failed:
                continue
            for later in session[position + 1 : position + 1 + LOOKED_AT]:
                if later.time - failed.time > MENDED_WITHIN_SECONDS or later.command == failed.command:
                    break  # the same command that works later was mended by something else
                if later.succeeded and _is_like(failed.command, later.command):
                    request = REPAIR_REQUEST.format(
                        command=failed.command, stderr=failed.stderr, exit_code=failed.exit_code
                    )
                    yield _Candidate("repair", request, later.command, later.time, None)
                    break


def _helped(improvements: Iterable[Improvement]) -> Iterator[_Candidate]:
    for one in improvements:
        for request in requests_for(one):
            yield _Candidate("command", request, one.command, one.time, objection(one))


def objection(improvement: Improvement) -> str | None:
    """Why what made the machine better is not learned; None where it is."""
    command = improvement.command
    return why_not_again(command) or _problem(_Candidate("command", "", command, improvement.time, None))


def _is_like(left: str, right: str) -> bool:
    """Whether two commands are nearly the same, or have most of their operands in common."""
    if similarity(left, right) >= SIMILAR:
        return True
    first, second = ({word for word in text.split()[1:] if not word.startswith("-")} for text in (left, right))
    return bool(first and second) and len(first & second) / min(len(first), len(second)) > 0.5


def _problem(candidate: _Candidate) -> str | None:
    command = candidate.command
    if "\n" in command or not parses(command):
        return "does not parse as one line of bash"
    if PLACEHOLDER in command or PLACEHOLDER in candidate.request or find_secret(f"{candidate.request} {command}"):
        return "held a secret"
    return None if judge(command).decision == "allow" else "not judged safe"


def _program(command: str) -> str:
    words = command.removeprefix("sudo ").split()
    return words[0].rsplit("/", 1)[-1] if words else ""


def _fold(text: str) -> str:
    return " ".join(text.split())
