"""Dialogues of two to five turns: what is asked later depends on what was asked and done before.

Takes `corpus/dialogues/`; gives `Dialogue`s and, through `render_dialogue`, `Example`s. `evaluation/proof.py` runs every turn in the
state that the earlier ones left.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from overseer_training.data.sources.corpus import CORPUS, SLOT, Split, fill, split_of
from overseer_training.data.sources.entries import list_problems, read_entries, text_problems
from overseer_training.records import Example, Turn

DEPENDENCIES = ("refine", "target", "pronoun", "correction", "undo", "format", "topic")
ROWS_EACH = 10  # of one dialogue, at most: its wordings and bindings in turn
MOST_TURNS = 5


@dataclasses.dataclass(frozen=True)
class DialogueTurn:
    """One request of a dialogue.

    Attributes:
        depends: how it needs the earlier turns (one of `DEPENDENCIES`); empty for the first.
        command: the whole command that fulfils it now.
    """

    command: str
    wordings: tuple[str, ...]
    depends: str = ""
    also: tuple[str, ...] = ()
    exit_code: int = 0


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """Turns that belong together, and the values that their slots take; see corpus/README.md."""

    name: str
    fixture: str
    turns: tuple[DialogueTurn, ...]
    slots: tuple[dict[str, str], ...] = ({},)
    path: str = ""

    @property
    def split(self) -> Split:
        return split_of(f"dialogue:{self.name}")


def load_dialogues(folder: pathlib.Path = CORPUS / "dialogues") -> list[Dialogue]:
    """All dialogues in `folder`.

    Raises:
        DataError: with every problem found.
    """
    return [
        Dialogue(
            name=entry["dialogue"],
            fixture=entry["fixture"],
            turns=tuple(_parse_turn(turn) for turn in entry["turns"]),
            slots=tuple(entry.get("slots", [{}])),
            path=path,
        )
        for entry, path in read_entries(folder, "dialogue", _problems)
    ]


def render_dialogue(dialogue: Dialogue, rows: int = ROWS_EACH) -> Iterator[Example]:
    """Up to `rows` conversations, each with another binding and other wordings than the one before."""
    possible = len(dialogue.slots) * max(len(turn.wordings) for turn in dialogue.turns)
    for number in range(min(rows, possible)):
        binding = dialogue.slots[number % len(dialogue.slots)]
        turns: list[Turn] = []
        for position, turn in enumerate(dialogue.turns):
            # Steps of different sizes, so that the same two wordings seldom meet twice.
            wording = turn.wordings[(number * (position + 1) + number // len(turn.wordings)) % len(turn.wordings)]
            turns += (Turn("user", fill(wording, binding)), Turn("assistant", fill(turn.command, binding)))
        yield Example(
            f"dialogue/{dialogue.name}/{number}",
            f"dialogue/{dialogue.name}",
            "dialogue",
            tuple(turns),
            "linux",
            "corpus",
        )


def _parse_turn(turn: dict[str, Any]) -> DialogueTurn:
    return DialogueTurn(
        command=turn["command"].strip(),
        wordings=tuple(turn["wordings"]),
        depends=turn.get("depends", ""),
        also=tuple(other.strip() for other in turn.get("also", [])),
        exit_code=int(turn.get("exit_code", 0)),
    )


def _problems(entry: dict[str, Any]) -> list[str]:
    problems = text_problems(entry, ("fixture",))
    turns, slots = entry.get("turns"), entry.get("slots", [{}])
    if not isinstance(turns, list) or not 2 <= len(turns) <= MOST_TURNS or not all(isinstance(t, dict) for t in turns):
        return [*problems, f"'turns' must be a list of two to {MOST_TURNS} mappings"]
    if not isinstance(slots, list) or not slots or not all(isinstance(binding, dict) for binding in slots):
        return [*problems, "'slots' must be a list of mappings"]
    if len({frozenset(binding) for binding in slots}) > 1:
        problems.append("every binding in 'slots' must have the same names")
    said: set[str] = set()
    for number, turn in enumerate(turns, start=1):
        wrong = [
            f"unknown key {key!r}" for key in turn.keys() - {"command", "also", "wordings", "depends", "exit_code"}
        ]
        wrong += text_problems(turn, ("command",)) + list_problems(turn, "wordings", 3) + list_problems(turn, "also")
        if (turn.get("depends") in DEPENDENCIES) is (number == 1):
            wrong.append("every turn but the first needs 'depends', one of " + ", ".join(DEPENDENCIES))
        if not wrong:
            said |= set.intersection(*(set(SLOT.findall(wording)) for wording in turn["wordings"]))
            needed = {name for name in slots[0] if f"{name}_words" not in slots[0]}  # `size` is said as `size_words`
            missing = (set(SLOT.findall(turn["command"])) & needed) - said
            wrong += (
                [f"no wording so far names {', '.join(sorted(missing))}, which the command needs"] if missing else []
            )
        problems += [f"turn {number}: {problem}" for problem in wrong]
    return problems
