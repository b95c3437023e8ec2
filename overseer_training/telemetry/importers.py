"""Series from files that others wrote: any table with a time in one column and numbers in others.

Takes CSV with comma, semicolon, tab, bar or blanks between its columns; gives `Recording`s on a regular grid. Gaps become NaN,
repeated times are averaged, order does not matter. Finds columns by looking at them; the README says how.
"""

from __future__ import annotations

import csv
import datetime
import itertools
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from overseer_training.errors import DataError
from overseer_training.telemetry.recordings import STEP_SECONDS, Incident, Recording, Values

SEPARATORS = (";", "\t", "|", ",")
FORMATS = (  # tried after ISO 8601; the first that reads all of a column's first values is taken
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d/%b/%Y:%H:%M:%S %z", "%d %b %Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p",
)  # fmt: skip
EPOCH_UNITS = (
    (1e17, 1e-9),
    (1e14, 1e-6),
    (1e11, 1e-3),
    (1e8, 1.0),
)  # a value of at least the first is in units of the second
LATEST = 4.1e9  # seconds since 1970: the year 2100
TIME_WORDS = ("time", "date", "epoch", "clock")
LOOKED_AT = 200  # rows that decide what a column is
NUMERIC_SHARE = 0.8  # of values that are there, for a column to be numeric
MOST_MACHINES = 1000
MOST_STEPS = 2_000_000  # of one recording: 19 years of 5-minute steps
LEAST_ROWS = 10
EMPTY = {"", "na", "n/a", "nan", "null", "none", "-"}


def read_csv(path: pathlib.Path) -> list[Recording]:
    """The recordings in `path`: one, or one for each value of the only text column.

    Raises:
        DataError: it cannot be read, has no time or no numbers; one line that says which.
    """
    try:
        rows = _rows(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if len(rows) < LEAST_ROWS or len(rows[0]) < 2:
        raise DataError(
            f"{path} is no table of telemetry: it needs a time column, a column of numbers and {LEAST_ROWS} rows"
        )
    names, rows = _header(rows)
    columns = [[row[place] if place < len(row) else "" for row in rows] for place in range(len(names))]
    time_place, read_time = _find_time(path, names, columns)
    times = np.array([_or_nan(read_time, text) for text in columns[time_place]])
    if np.isfinite(times).mean() < 0.5:
        raise DataError(f"{path}: more than half of the times in column {names[time_place]!r} cannot be read")
    numeric = {
        names[place]: np.array([_or_nan(_number, text) for text in columns[place]])
        for place in range(len(names))
        if place != time_place and _share(_number, columns[place][:LOOKED_AT]) >= NUMERIC_SHARE
    }
    if not numeric:
        raise DataError(f"{path} has times in column {names[time_place]!r} but no column of numbers")
    groups = _machines(names, columns, {time_place}, set(numeric))
    found = []
    for machine in dict.fromkeys(groups):
        chosen = np.array([one == machine for one in groups]) & np.isfinite(times)
        if chosen.sum() >= LEAST_ROWS:
            name = f"{path.stem}/{machine}" if machine else path.stem
            found.append(_regular(path, name, times[chosen], {key: one[chosen] for key, one in numeric.items()}))
    if not found:
        raise DataError(f"{path} has no machine with {LEAST_ROWS} rows whose times can be read")
    return found


def with_labels(recordings: Sequence[Recording], labels: pathlib.Path) -> list[Recording]:
    """The recordings with the abnormal windows that a file in the form of the Numenta Anomaly Benchmark gives.

    Args:
        labels: JSON, {"folder/name.csv": [["2014-02-26 13:45:00", "2014-02-27 06:25:00"], ...]}.

    Raises:
        DataError: it cannot be read.
    """
    try:
        windows = {
            pathlib.PurePath(name).stem: [(_iso(start), _iso(end)) for start, end in pairs]
            for name, pairs in json.loads(labels.read_text()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{labels} is no list of abnormal windows ({error}); the README has an example") from error
    labelled = []
    for one in recordings:
        metric = next(iter(one.series)) if len(one.series) == 1 else ""
        incidents = [
            Incident("unknown", metric, max(0, _step(one, start)), min(len(one), _step(one, end) + 1))
            for start, end in windows.get(one.name, ())
        ]
        known = one.name in windows
        labelled.append(
            Recording(one.name, one.start, one.step_seconds, one.series, tuple(incidents) if known else one.incidents)
        )
    return labelled


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if "\0" in text or not lines:
        raise csv.Error("it is empty, or not text")
    shown = lines[:LOOKED_AT]
    # In all lines, and in most as often; a comma last, since it may stand in numbers.
    for separator in SEPARATORS:
        counts = [line.count(separator) for line in shown]
        if min(counts) > 0 and counts.count(statistics.mode(counts)) >= 0.9 * len(counts):
            break
    else:
        if sum("," in line for line in shown) < len(shown) / 2:
            return [line.split() for line in lines]
        separator = ","
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]


def _header(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, rows below them); a first row with a number or a time in it is no header."""
    width = max(len(row) for row in rows[:LOOKED_AT])
    first = rows[0]
    is_header = not any(_share(_number, [cell]) or _share(_iso, [cell]) for cell in first if cell)
    given = first if is_header else []
    names = [given[place] if place < len(given) and given[place] else f"column_{place + 1}" for place in range(width)]
    unique = [name if names.index(name) == place else f"{name}_{place + 1}" for place, name in enumerate(names)]
    return unique, rows[1:] if is_header else rows


def _find_time(
    path: pathlib.Path, names: Sequence[str], columns: Sequence[list[str]]
) -> tuple[int, Callable[[str], float]]:
    """(which column is the time, how it is read): a column named so, else the first that reads as dates or epochs."""
    by_name = sorted(range(len(names)), key=lambda place: not any(word in names[place].lower() for word in TIME_WORDS))
    for place in by_name:
        shown = [text for text in columns[place] if text][:LOOKED_AT]
        is_named = any(word in names[place].lower() for word in TIME_WORDS)
        for reader in (_iso, _epoch, *map(_reader, FORMATS)):
            if shown and _share(reader, shown) >= 0.95 and (reader is not _epoch or is_named or _rises(shown)):
                return place, reader
    raise DataError(f"{path} has no column of times: looked for dates and seconds since 1970 in {', '.join(names[:8])}")


def _reader(form: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        return _utc(datetime.datetime.strptime(text, form))

    return read


def _iso(text: str) -> float:
    if text[:5].isdigit():  # 20140214 and such are read as numbers, not as dates without separators
        raise ValueError(text)
    return _utc(datetime.datetime.fromisoformat(text.removesuffix(" UTC")))


def _utc(moment: datetime.datetime) -> float:
    """Times without a zone are taken for UTC, so that no hour comes twice."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _epoch(text: str) -> float:
    value = float(text)
    for least, unit in EPOCH_UNITS:
        if value >= least and value * unit < LATEST:
            return value * unit
    raise ValueError(text)


def _number(text: str) -> float:
    if text.lower() in EMPTY:
        return math.nan
    text = text.removesuffix("%").strip()
    if "," in text and "." not in text:  # 12,5
        text = text.replace(",", ".", 1)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _or_nan(reader: Callable[[str], float], text: str) -> float:
    try:
        return reader(text)
    except (ValueError, OverflowError):
        return math.nan


def _share(reader: Callable[[str], float], texts: Sequence[str]) -> float:
    """The share of texts that hold something and can be read."""
    held = [text for text in texts if text.lower() not in EMPTY]
    return sum(not math.isnan(_or_nan(reader, text)) for text in held) / len(held) if held else 0.0


def _rises(texts: Sequence[str]) -> bool:
    values = [_or_nan(_epoch, text) for text in texts]
    return all(later >= earlier for earlier, later in itertools.pairwise(values)) and values[0] < values[-1]


def _machines(names: Sequence[str], columns: Sequence[list[str]], times: set[int], numeric: set[str]) -> list[str]:
    """The machine of each row: the value of the only text column when it repeats, else nothing."""
    texts = [place for place in range(len(names)) if place not in times and names[place] not in numeric]
    texts = [place for place in texts if any(columns[place])]
    if len(texts) == 1 and 1 < len(set(columns[texts[0]])) <= min(MOST_MACHINES, len(columns[0]) // LEAST_ROWS):
        return columns[texts[0]]
    return [""] * len(columns[0])


def _regular(path: pathlib.Path, name: str, times: Values, series: dict[str, Values]) -> Recording:
    """Means on a regular grid of the usual distance between samples, at least 5 minutes."""
    moments = np.unique(times)
    if len(moments) < 2:
        raise DataError(f"{path}: all rows of {name} have the same time")
    step = max(STEP_SECONDS, round(float(np.median(np.diff(moments)))))
    start = float(moments[0])
    # Half a step earlier where samples are a step apart: one that comes a little early or late stays in its own.
    offset = 0.5 if float(np.median(np.diff(moments))) >= step - 0.5 else 0.0
    places = np.floor((times - start) / step + offset)
    steps = int(places.max()) + 1
    if steps > MOST_STEPS:
        raise DataError(f"{path}: {name} spans {steps:,} steps of {step} s; the times are wrong, or the gaps too long")
    regular = {}
    for metric, values in series.items():
        known = np.isfinite(values)
        counts = np.bincount(places[known].astype(int), minlength=steps)
        sums = np.bincount(places[known].astype(int), weights=values[known], minlength=steps)
        regular[metric] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Recording(name, start, step, regular)


def _step(recording: Recording, moment: float) -> int:
    return math.floor((moment - recording.start) / recording.step_seconds)
