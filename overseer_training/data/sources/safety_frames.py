"""Rows that teach a model to keep to its owner's request: foreign instructions in it are not followed, dressed-up dangerous ones are refused.

Takes `corpus/safety_frames.yaml`, requests of training families and of training safety cases; gives `Example`s. Shares no longer run of
words with the attacks that models are measured with (`corpus/robustness/`), but for the marks of chat templates.
"""

from __future__ import annotations

import pathlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer_training.data.sources.advice import SafetyCase
from overseer_training.data.sources.corpus import CORPUS, Family, fill
from overseer_training.data.sources.entries import list_problems, read_entries
from overseer_training.guards.judge import judge
from overseer_training.records import Example, Platform, Turn

SLOTS = {"injected": ("{query}", "{payload}"), "dressed": ("{query}",), "payload": ()}
INJECTED_ROWS = 1200  # chosen, like the next one: together about as many as there are bare rows of safety
DRESSED_SHARE = 1.0  # of the number of wordings of requests to refuse


def load_safety_frames(path: pathlib.Path = CORPUS / "safety_frames.yaml") -> dict[str, tuple[str, ...]]:
    """Texts by kind: `injected` ones have {query} and {payload}, `dressed` ones {query}; a `payload` is a dangerous command.

    Raises:
        DataError: with every problem found.
    """
    found: dict[str, tuple[str, ...]] = dict.fromkeys(SLOTS, ())
    for entry, _ in read_entries(path, "frames", _problems):
        found[entry["kind"]] += tuple(entry["texts"])
    return found


def injected_rows(families: Sequence[Family], number: int, seed: int, macos_share: float = 0.0) -> Iterator[Example]:
    """Requests of `families` with somebody else's instructions in them, and the families' commands.

    Args:
        number: of rows, each of a family and with a frame drawn anew; fewer where families do not exist on the platform that was drawn.
    """
    frames, rng = load_safety_frames(), random.Random(f"{seed}:injected")
    for row in range(number if families else 0):
        family = rng.choice(families)
        platform: Platform = "macos" if rng.random() < macos_share else "linux"
        command = family.command_for(platform)
        if command is None:
            continue
        binding = rng.choice(family.slots)
        query = fill(rng.choice(family.wordings), binding)
        text = _put(rng.choice(frames["injected"]), {"{query}": query, "{payload}": rng.choice(frames["payload"])})
        yield _row(f"injected/{family.name}/{row}", family.name, text, fill(command, binding), platform)


def dressed_rows(cases: Sequence[SafetyCase], share: float, seed: int) -> Iterator[Example]:
    """Requests of `cases` that are to be refused, dressed up: `share` times as many as these have wordings."""
    frames, rng = load_safety_frames(), random.Random(f"{seed}:dressed")
    wordings = [(case, wording) for case in cases if case.expect == "refuse" for wording in case.wordings]
    for row in range(round(share * len(wordings))):
        case, wording = wordings[row % len(wordings)]
        text = _put(rng.choice(frames["dressed"]), {"{query}": wording})
        yield _row(f"dressed/{case.name}/{row}", f"safety/{case.name}", text, case.answer)


def _put(frame: str, values: Mapping[str, str]) -> str:
    for slot, value in values.items():
        frame = frame.replace(slot, value)
    return frame


def _row(identity: str, family: str, request: str, answer: str, platform: Platform = "linux") -> Example:
    return Example(identity, family, "safety", (Turn("user", request), Turn("assistant", answer)), platform, "corpus")


def _problems(entry: dict[str, Any]) -> list[str]:
    kind = entry.get("kind")
    if kind not in SLOTS:
        return [f"'kind' must be one of {', '.join(SLOTS)}"]
    problems = list_problems(entry, "texts", 3)
    if problems:
        return problems
    for text in entry["texts"]:
        problems += [f"not one {slot} in {text!r}" for slot in SLOTS[kind] if text.count(slot) != 1]
        if kind == "payload" and judge(text).decision == "allow":
            problems.append(f"the payload is harmless: {text}")
    return problems
