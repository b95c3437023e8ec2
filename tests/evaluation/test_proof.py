from __future__ import annotations

import random

import pytest

from overseer_training.data.sources.corpus import Family, load_families, load_fixture_scripts
from overseer_training.data.sources.dialogues import Dialogue, DialogueTurn, load_dialogues
from overseer_training.evaluation.proof import Unit, prove
from overseer_training.evaluation.sandbox import find_sandbox

WORDINGS = ("a", "b", "c", "d")
SCRIPTS = {"home": ("mkdir docs; echo one >docs/a.txt; echo two >docs/b.txt\n", "")}
SAMPLE = 40


def family(command: str, **values: object) -> Family:
    return Family("f", "ls", "home", command, WORDINGS, "x", **values)  # type: ignore[arg-type]


def dialogue(*commands: str) -> Dialogue:
    turns = tuple(
        DialogueTurn(command, WORDINGS, "refine" if number else "") for number, command in enumerate(commands)
    )
    return Dialogue("d", "home", turns)


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        (family("ls docs"), ""),
        (family("ls docs", also=("find docs -type f -printf '%f\\n' | sort",)), ""),
        (family("ls docs", also=("ls -a docs",)), "other output"),
        (family("ls nowhere"), "exit code 2"),
        (family("true"), "leaves nothing to compare"),
        (family("ls docs", expect=("c.txt",)), "output lacks"),
        (family("sleep 30"), "time limit"),
        (dialogue("rm docs/a.txt", "ls docs"), ""),
        (dialogue("rm docs/a.txt", "cat docs/a.txt"), "turn 2"),
        (dialogue("mkdir new", "mkdir new"), "turn 2"),
    ],
)
def test_a_proof_finds_what_is_wrong(unit: Unit, problem: str) -> None:
    [proof] = prove([unit], SCRIPTS, find_sandbox())
    assert proof.problems == () if not problem else problem in proof.problems[0]


def test_a_fixture_that_is_missing_is_told() -> None:
    [proof] = prove([family("ls")], {}, find_sandbox())
    assert "no fixture 'home'" in proof.problems[0]


def test_a_sample_of_the_corpus_passes() -> None:
    units: list[Unit] = [*load_families(), *load_dialogues()]
    chosen = random.Random(2026).sample(units, SAMPLE)
    problems = [
        problem for proof in prove(chosen, load_fixture_scripts(), find_sandbox()) for problem in proof.problems
    ]
    assert problems == []
