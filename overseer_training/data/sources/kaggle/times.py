"""Reads the times that tables and logs have, and writes series with one form of them.

Takes texts; gives seconds since 1970. A time without a zone is taken as UTC. Guesses nothing: a date whose day and month cannot be told
apart is no time.
"""

from __future__ import annotations

import csv
import datetime
import pathlib
from collections.abc import Callable, Iterable, Sequence

from overseer_training.files import staged_file

UTC = datetime.UTC
# Powers of ten of seconds, milliseconds, microseconds and nanoseconds since 1970, told apart by their size: 1973 to 5138.
EPOCH_UNITS = ((1e8, 1e11, 1.0), (1e11, 1e14, 1e3), (1e14, 1e17, 1e6), (1e17, 1e20, 1e9))
DATE_FORMATS = tuple(
    f"{date} {time}"
    for date in ("%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y")
    for time in ("%H:%M:%S", "%H:%M")
)
LEAST_SHARE = 0.95  # of the values of a column that must be times; chosen
Parser = Callable[[str], float | None]


def find_parser(values: Sequence[str], accept_numbers: bool = True) -> Parser | None:
    """What reads `values` as times, or None where they are none, or where two readings are possible."""
    candidates: list[Parser] = [parse_iso, *([parse_epoch] if accept_numbers else [])]
    fit = [parser for parser in candidates if _share(parser, values) >= LEAST_SHARE]
    if fit:
        return fit[0]
    formats = [parser for parser in map(_by_format, DATE_FORMATS) if _share(parser, values) >= LEAST_SHARE]
    return formats[0] if len(formats) == 1 else None


def parse_iso(text: str) -> float | None:
    """A date with or without a time and a zone, as ISO 8601 or RFC 3339 write them."""
    if len(text) < 10 or text[4:5] != "-":
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def parse_epoch(text: str) -> float | None:
    """Seconds, milliseconds, microseconds or nanoseconds since 1970."""
    try:
        number = float(text)
    except ValueError:
        return None
    return next((number / unit for low, high, unit in EPOCH_UNITS if low <= number < high), None)


def write_series(path: pathlib.Path, names: Sequence[str], rows: Iterable[tuple[float, Sequence[float | None]]]) -> int:
    """Write `time` (seconds since 1970) and a column for each of `names`, sorted, the first of rows at one time; how many."""
    written, last = 0, None
    with staged_file(path) as staging, staging.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time", *names])
        for time, values in sorted(rows, key=lambda row: row[0]):
            if time != last:
                writer.writerow([_number(time), *("" if value is None else _number(value) for value in values)])
                written, last = written + 1, time
    return written


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _by_format(form: str) -> Parser:
    def parse(text: str) -> float | None:
        try:
            return datetime.datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None

    return parse


def _share(parser: Parser, values: Sequence[str]) -> float:
    return sum(parser(value) is not None for value in values) / len(values) if values else 0.0
