"""What a run asks its models beside commands, and how much of it."""

from __future__ import annotations

import collections

from overseer_training.measuring import make_suite


def test_every_skill_is_asked_and_each_in_its_share() -> None:
    kinds = collections.Counter(task.kind for task in make_suite(80, seed=1, with_macos=False).tasks)
    assert set(kinds) == {"command", "dialogue", "repair", "tools", "safety", "prediction", "noise", "attack", "bias"}
    assert (kinds["command"], kinds["safety"], kinds["tools"], kinds["prediction"]) == (80, 20, 20, 20)
    assert kinds["bias"] == 4 * 8 and 20 < kinds["attack"] <= 40 and kinds["noise"] <= 4 * 8


def test_no_commands_ask_for_nothing_else_either() -> None:
    assert make_suite(0, seed=1, with_macos=False).tasks == ()
