"""Rows of rare skills and of commands that never vary come again, so that a run which sees only a part of an epoch learns them too.

Takes training rows; gives those to add. A run of half an hour sees a tenth of the rows, and a skill with one row in a hundred is then not learned;
nor is `uname -r`, which has a row for each wording where `tar -xf {file}` has four with other files.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

MOST_TIMES = 4  # that a row is in an epoch; chosen
WITH_OWN_SHARE = ("explanation",)  # its rows are a share of the commands' (`explanation_share`)


def times_of_same(augmented_copies: int) -> int:
    """How often a row of a family whose names and numbers cannot be drawn anew is in an epoch: as often as one that can, with its copies."""
    return min(1 + augmented_copies, MOST_TIMES)


def repeated(
    rows: Mapping[str, Sequence[int]], least_share: float, own_shares: Mapping[str, float], rng: random.Random
) -> Iterator[tuple[int, int]]:
    """Rows that bring each skill to its least share of the rows there were, as far as no row is there more than four times.

    Args:
        rows: the numbers by which whoever asks knows the rows of each skill.
        least_share: of a skill that has none in `own_shares`.

    Yields:
        (row, how often it has come again by then).
    """
    counts = {skill: len(numbers) for skill, numbers in rows.items()}
    for skill, missing in missing_rows(counts, least_share, own_shares).items():
        numbers = rows[skill]
        for position in range(missing):
            if position % len(numbers) == 0:
                order = rng.sample(numbers, len(numbers))
            yield order[position % len(numbers)], position // len(numbers) + 1


def missing_rows(counts: Mapping[str, int], least_share: float, own_shares: Mapping[str, float]) -> dict[str, int]:
    """How many rows of each skill come again, given how many there are of each."""
    total = sum(counts.values())
    return {
        skill: max(0, min(round(own_shares.get(skill, least_share) * total), MOST_TIMES * count) - count)
        for skill, count in counts.items()
        if skill not in WITH_OWN_SHARE
    }
