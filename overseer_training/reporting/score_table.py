"""All scores of a run as one table of plain text: base against trained, each with n, 95 % interval, baseline and what is unscored.

Takes the document of eval.json (or the scores of one model) and gives text; reads and draws nothing. Printed by `overseer evaluate`, and kept as
eval.txt beside eval.json.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from overseer_training.reporting.comparison import LOWER_IS_BETTER, Measured, Row, compare, format_value
from overseer_training.reporting.units import as_number

GAP = "  "
LONGEST_REASON = 100  # characters


def format_scores(evaluation: Mapping[str, Any], title: str) -> str:
    """The table of `evaluation`, with the reasons of what is unscored below it.

    Args:
        evaluation: `base` and `trained` as eval.json has them; without `base` the columns that compare are left out.
        title: whose scores they are, the first line.
    """
    rows = _with_parts_behind(compare(dict(evaluation)))
    is_compared = bool(evaluation.get("base"))
    head: tuple[str, ...] = ("", "n", "base", "trained", "", "best baseline", "unscored")
    names = {row.name for row in rows}
    lines = [_cells(row, names) for row in rows]
    if not is_compared:
        head, lines = _without_base(head), [_without_base(line) for line in lines]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    table = [_line(cells, widths) for cells in (head, *lines)]
    notes = [f"{row.label}: {text}" for row in rows if "/" not in row.name for text in row.holes]
    below = ["", "Unscored, and no part of any value:", *_shortened(notes)] if notes else []
    intervals = "95 % intervals in brackets; a difference within them is unclear"
    return "\n".join([f"{title} ({intervals if is_compared else '95 % intervals in brackets'})", "", *table, *below]) + "\n"  # fmt: skip


def _cells(row: Row, names: Collection[str]) -> tuple[str, ...]:
    whole, slash, part = row.name.partition("/")
    label = f"  {part.replace('_', ' ')}" if slash and whole in names else row.label
    verdict = "" if row.verdict == "alone" else row.verdict
    return (
        label,
        _pair([side.n if side else 0 for side in (row.base, row.trained)], row),
        _value(row.base),
        _value(row.trained),
        verdict,
        _best_baseline(row),
        _pair([side.unscored if side else 0 for side in (row.base, row.trained)], row),
    )


def _without_base(cells: Sequence[str]) -> tuple[str, ...]:
    return (*cells[:2], cells[3], *cells[5:])


def _pair(numbers: Sequence[int], row: Row) -> str:
    """`400`, or `4 / 0` where base and trained model differ."""
    if row.base is None or row.trained is None:
        return f"{numbers[row.base is None]:,}"
    return f"{numbers[0]:,}" if numbers[0] == numbers[1] else f"{numbers[0]:,} / {numbers[1]:,}"


def _value(side: Measured | None) -> str:
    if side is None:
        return "not asked"
    if side.value is None:
        return "unscored"
    if side.low is None or side.high is None:
        return side.text
    is_share = side.unit == "fraction"
    low, high = (f"{end * 100:.1f}" if is_share else f"{end:.3g}" for end in (side.low, side.high))
    return f"{side.text} [{low}, {high}]"


def _best_baseline(row: Row) -> str:
    """The baseline that is hardest to beat; the others are in eval.json."""
    side = row.trained or row.base
    known = {name: value for name, raw in (side.baseline if side else {}).items() if (value := as_number(raw)) is not None}  # fmt: skip
    if not known:
        return ""
    is_lower_better = row.name.partition("/")[0].endswith(LOWER_IS_BETTER)
    best = (min if is_lower_better else max)(known, key=lambda name: known[name])
    return f"{format_value(known[best], row.unit)} {best.replace('_', ' ')}"


def _with_parts_behind(rows: Sequence[Row]) -> list[Row]:
    """Parts such as `noise_kept/polite` follow what they are parts of."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        whole, slash, _ = row.name.partition("/")
        if slash:
            parts.setdefault(whole, []).append(row)
    ordered = [found for row in rows if "/" not in row.name for found in (row, *parts.pop(row.name, []))]
    return ordered + [row for left in parts.values() for row in left]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Text to the left, n to the right."""
    aligned = [cell.rjust(width) if place == 1 else cell.ljust(width) for place, (cell, width) in enumerate(zip(cells, widths, strict=True))]  # fmt: skip
    return GAP.join(aligned).rstrip()


def _shortened(notes: Sequence[str]) -> list[str]:
    return [f"  {note if len(note) <= LONGEST_REASON else note[: LONGEST_REASON - 1] + '…'}" for note in notes]
