"""Executed tasks: conversations are also asked without their history, and counted apart."""

from __future__ import annotations

from overseer_training.evaluation.runner import Evaluator
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.evaluation.tasks.commands import questions

TURNS = [
    {"query": "list the files", "references": ["ls"], "depends": ""},
    {"query": "only those ending in .txt", "references": ["ls *.txt"], "depends": "refine"},
    {"query": "what day is it?", "references": ["echo monday"], "depends": "topic"},
]
TALK = Task("talk", "dialogue", {"fixture": "tiny", "turns": TURNS}, "talk")
SUITE = Suite((TALK,), {"tiny": ("touch a.txt b.md", "")})


def test_a_turn_that_depends_on_earlier_ones_is_asked_once_more_without_them() -> None:
    asked = list(questions(TALK))
    assert [(q.id, q.is_control, len(q.messages)) for q in asked] == [
        ("talk#1", False, 2),
        ("talk#2", False, 4),
        ("talk#2/alone", True, 2),
        ("talk#3", False, 6),
    ]


def test_the_control_is_counted_apart() -> None:
    evaluator = Evaluator(SUITE)
    scores = evaluator.score(["ls", "ls *.txt", "ls", "echo monday"]).scores
    assert scores["dialogue_accuracy"].value == 1 and scores["dialogue_accuracy"].n == 3
    assert scores["later_turn_accuracy"].value == 1 and scores["later_turn_accuracy"].n == 1
    assert scores["later_turn_accuracy_without_history"].value == 0
    assert scores["later_turn_accuracy/refine"].n == 1
