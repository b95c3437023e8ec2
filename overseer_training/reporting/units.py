"""Numbers as people read them: durations, sizes, shares, counts. Used by the terminal and by the report.

Takes plain numbers in base units (seconds, bytes, fractions) and gives short text; None is a dash. Reads nothing.
"""

from __future__ import annotations

import math

NOTHING = "–"


def as_number(value: object) -> float | None:
    """`value` as a finite float; None for everything else, so that a hole in a file stays a hole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def as_duration(seconds: float | None) -> str:
    """`45 s`, `4 min 12 s`, `2 h 5 min`, `3 d 4 h`: two units at most."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, size, part, part_size in (("min", 60, "s", 1), ("h", 3600, "min", 60), ("d", 86400, "h", 3600)):
        if whole < size * {"min": 60, "h": 24, "d": 10**9}[unit]:
            rest = whole % size // part_size
            return f"{whole // size} {unit} {rest} {part}" if rest else f"{whole // size} {unit}"
    raise AssertionError("days have no upper limit")


def as_size(size_bytes: float | None) -> str:
    """`512 B`, `1.9 GiB`: binary units, as memory is sold and limited."""
    if size_bytes is None:
        return NOTHING
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1023.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def as_percent(fraction: float | None, digits: int = 1) -> str:
    """`61.3 %` for 0.613."""
    return NOTHING if fraction is None else f"{fraction * 100:.{digits}f} %"


def as_count(number: float | None) -> str:
    """`12,345`."""
    return NOTHING if number is None else f"{round(number):,}"


def as_quantity(number: float | None) -> str:
    """Three significant digits where they say something: `292`, `12,345`, `1.23`, `5e-05`."""
    if number is None:
        return NOTHING
    size = abs(number)
    if size >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"
