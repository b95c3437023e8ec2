"""Series of how many lines, and how many errors, logs have in each five minutes.

Takes a folder of logs; gives `series/NAME.csv`. That is all that logs teach here: nobody said which command answers a line, and
addresses and names in them stay where they are. Knows the times of web servers, syslog and ISO 8601.
"""

from __future__ import annotations

import collections
import functools
import pathlib
import re
from collections.abc import Iterator

from overseer_training.data.sources.kaggle.reviewed import Dataset
from overseer_training.data.sources.kaggle.series import SERIES, name_below
from overseer_training.data.sources.kaggle.times import parse_iso, write_series
from overseer_training.errors import DataError

STEP_SECONDS = 300
LINES_LOOKED_AT = 1000
LEAST_SHARE = 0.5  # of the lines that must have a time; chosen: traces of errors go on over many lines
LEAST_STEPS = 12
MOST_STEPS = 250_000  # more than two years: a clock that was wrong, not a log
LONGEST_LINE_CHARACTERS = 1 << 16
ACCESS = re.compile(
    r"\[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<clock>\d\d:\d\d:\d\d) (?P<zone>[+-]\d{4})\]"
)
ERROR_LOG = re.compile(
    r"\[[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2}) (?P<clock>\d\d:\d\d:\d\d)(?:\.\d+)? (?P<year>\d{4})\]"
)
ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)")
SYSLOG = re.compile(r"^(?:<\d+>)?(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2}) (?P<clock>\d\d:\d\d:\d\d)")
SYSLOG_YEAR = 2000  # syslog says none; a leap year, counted on when December turns into January
STATUS = re.compile(r'" (\d{3}) ')
ERROR = re.compile(r"(?i)\b(?:error|crit(?:ical)?|alert|emerg(?:ency)?|fatal|panic|fail(?:ed|ure)?)\b")
MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6, "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip


def convert(source: pathlib.Path, target: pathlib.Path, dataset: Dataset) -> tuple[dict[str, int], list[str]]:
    """Write the counts of all logs below `source` to `target`; (counts, what a person should know).

    Raises:
        DataError: none of them is a log with times.
    """
    notes: list[str] = []
    counts = {"logs": 0, "lines": 0, "errors": 0, "lines_without_time": 0, "points": 0}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        try:
            steps, without_time = _count(path)
            points = _fill(steps)
        except DataError as error:
            notes.append(f"{path.relative_to(source)}: left out, {error}")
            continue
        lines, errors = (sum(step[place] for step in steps.values()) for place in (0, 1))
        counts["points"] += write_series(target / SERIES / name_below(source, path), ("lines", "errors"), points)
        counts["logs"] += 1
        counts["lines"] += lines
        counts["errors"] += errors
        counts["lines_without_time"] += without_time
        notes.append(f"{path.relative_to(source)}: {lines} lines, {errors} of them errors, in {len(points)} steps")
    if not counts["logs"]:
        raise DataError(f"{dataset.slug} has no log with times: {'; '.join(notes) or 'it has no files'}")
    return counts, notes


def _count(path: pathlib.Path) -> tuple[dict[int, list[int]], int]:
    """(step -> [lines, errors], lines without a time)."""
    steps: dict[int, list[int]] = collections.defaultdict(lambda: [0, 0])
    clock = _Clock()
    without_time = 0
    for number, line in enumerate(_lines(path), start=1):
        time = clock.read(line)
        if time is None:
            without_time += 1
        else:
            step = steps[int(time // STEP_SECONDS)]
            step[0] += 1
            step[1] += _is_error(line)
        if number == LINES_LOOKED_AT and without_time > number * (1 - LEAST_SHARE):
            break
        if len(steps) > MOST_STEPS:
            raise DataError(f"its times lie in more than {MOST_STEPS:,} steps")
    timed = sum(step[0] for step in steps.values())
    if timed == 0 or timed < (timed + without_time) * LEAST_SHARE:
        raise DataError(f"{timed} of {timed + without_time} lines have a time")
    return steps, without_time


def _fill(steps: dict[int, list[int]]) -> list[tuple[float, list[float | None]]]:
    """All steps from first to last: one without a line had none."""
    first, last = min(steps), max(steps)
    if last - first + 1 < LEAST_STEPS:
        raise DataError(f"it covers {last - first + 1} steps of {STEP_SECONDS} seconds, and {LEAST_STEPS} are needed")
    if last - first > MOST_STEPS:
        raise DataError(f"its times lie {last - first:,} steps apart")
    return [(float(step * STEP_SECONDS), [*steps.get(step, (0, 0))]) for step in range(first, last + 1)]


def _lines(path: pathlib.Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from iter(lambda: file.readline(LONGEST_LINE_CHARACTERS), "")
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error


def _is_error(line: str) -> bool:
    status = STATUS.search(line)
    return status.group(1) >= "500" if status else ERROR.search(line) is not None


class _Clock:
    """Reads the time of a line; counts the years of syslog, which leaves them out."""

    def __init__(self) -> None:
        self._year, self._month = SYSLOG_YEAR, 0

    def read(self, line: str) -> float | None:
        """Seconds since 1970, or None."""
        if match := ACCESS.search(line) or ERROR_LOG.search(line):
            parts = match.groupdict()
            return _moment(int(parts["year"]), parts["month"], parts["day"], parts["clock"], parts.get("zone", ""))
        if match := ISO.search(line):
            return parse_iso(f"{match.group(1)}T{match.group(2)}")
        match = SYSLOG.search(line)
        if match is None:
            return None
        month = MONTHS.get(match["month"], 0)
        self._year += month == 1 and self._month == 12
        self._month = month
        return _moment(self._year, match["month"], match["day"], match["clock"], "")


@functools.lru_cache(maxsize=1024)  # many lines of a log have the same second
def _moment(year: int, month: str, day: str, clock: str, zone: str) -> float | None:
    return parse_iso(f"{year}-{MONTHS.get(month, 0):02}-{int(day):02}T{clock}{zone}")
