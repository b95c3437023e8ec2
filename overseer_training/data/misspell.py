"""Slips of the finger in requests, so that a misspelt word does not throw a small model off.

Takes a wording and the command it stands for; gives the wording with one slip, never in a word that the command has, in a slot or in quotes.
"""

from __future__ import annotations

import random
import re

SHORTEST = 4  # letters of a word that gets a slip: shorter ones turn into other words
WORD = re.compile(rf"(?<![\w{{/'\"$.*\-`])[A-Za-z]{{{SHORTEST},}}(?![\w}}/'\"*\-`]|\.\w)")
# Keys beside each other on a QWERTY keyboard.
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def misspell(wording: str, command: str, rng: random.Random) -> str:
    """`wording` with one slip: letters swapped, left out, doubled, or the key beside hit; unchanged where no word is fit."""
    known = set(re.findall(r"[a-z]+", command.casefold()))
    words = [match for match in WORD.finditer(wording) if match.group().casefold() not in known]
    if not words:
        return wording
    match = rng.choice(words)
    return wording[: match.start()] + _slip(match.group(), rng) + wording[match.end() :]


def _slip(word: str, rng: random.Random) -> str:
    position = rng.randrange(1, len(word) - 1)  # the first letter is seldom wrong
    letter, after = word[position], word[position + 1]
    kind = rng.randrange(4)
    if kind == 0:
        return word[:position] + after + letter + word[position + 2 :]
    if kind == 1:
        return word[:position] + word[position + 1 :]
    if kind == 2:
        return word[:position] + letter + word[position:]
    row = next((row for row in ROWS if letter.lower() in row), ROWS[1])
    beside = row.find(letter.lower()) + rng.choice((-1, 1))
    return word[:position] + row[beside % len(row)] + word[position + 1 :]
