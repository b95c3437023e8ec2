"""One slip of the finger, and never where it would change what is asked."""

from __future__ import annotations

import difflib
import random

import pytest

from overseer_training.data.misspell import misspell


def test_one_word_changes_by_one_slip() -> None:
    for seed in range(200):
        before = "please count the lines of every report"
        after = misspell(before, "wc -l", random.Random(seed))
        pairs = [(a, b) for a, b in zip(before.split(), after.split(), strict=True) if a != b]
        assert len(pairs) <= 1  # swapping equal letters changes nothing
        for old, new in pairs:
            assert old[0] == new[0] and abs(len(old) - len(new)) <= 1
            assert difflib.SequenceMatcher(None, old, new).ratio() > 0.6


@pytest.mark.parametrize(
    ("wording", "command"),
    [
        ("{dir} {file}", "ls {dir}"),
        ("'error' \"warning\" /etc/hosts notes.txt *.html --recursive $HOME", "true"),
        ("sort uniq", "sort a | uniq"),
        ("ls -l now", "ls -l"),
    ],
)
def test_slots_names_and_words_of_the_command_stay(wording: str, command: str) -> None:
    assert all(misspell(wording, command, random.Random(seed)) == wording for seed in range(50))


def test_the_same_seed_makes_the_same_slip() -> None:
    slips = [misspell("display everything about processes", "ps aux", random.Random(3)) for _ in range(2)]
    assert slips[0] == slips[1] != "display everything about processes"
