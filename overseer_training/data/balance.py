"""Rows of rare skills come again, so that a run which sees only a part of an epoch learns every skill.

Takes training rows; gives those to add. A run of half an hour sees a tenth of the rows, and a skill with one row in a hundred is then not learned.
"""

from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Iterable, Mapping

from overseer_training.records import Example

MOST_TIMES = 4  # that a row is in an epoch; chosen
WITH_OWN_SHARE = ("explanation",)  # its rows are a share of the commands' (`explanation_share`)


def repeated(examples: Iterable[Example], least_share: float, rng: random.Random) -> list[Example]:
    """Rows that bring each skill to `least_share` of the rows there were, as far as no row is there more than four times."""
    by_skill: dict[str, list[Example]] = collections.defaultdict(list)
    for example in examples:
        by_skill[example.skill].append(example)
    again = []
    for skill, missing in missing_rows({skill: len(rows) for skill, rows in by_skill.items()}, least_share).items():
        rows = by_skill[skill]
        for number in range(missing):
            if number % len(rows) == 0:
                order = rng.sample(rows, len(rows))
            row = order[number % len(rows)]
            again.append(dataclasses.replace(row, id=f"{row.id}/again-{number // len(rows) + 1}"))
    return again


def missing_rows(counts: Mapping[str, int], least_share: float) -> dict[str, int]:
    """How many rows of each skill come again, given how many there are of each."""
    wanted = round(least_share * sum(counts.values()))
    return {
        skill: max(0, min(wanted, MOST_TIMES * count) - count)
        for skill, count in counts.items()
        if skill not in WITH_OWN_SHARE
    }
