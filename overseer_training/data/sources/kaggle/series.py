"""Metric series out of tables with any column names.

Takes a folder of tables; gives `series/NAME.csv`: `time` in seconds since 1970, and a column for each metric. A table without times is
left out, unless its data set says how far apart its rows are.
"""

from __future__ import annotations

import itertools
import math
import pathlib
import re
from collections.abc import Iterator, Sequence

from overseer_training.data.sources.kaggle.reviewed import Dataset
from overseer_training.data.sources.kaggle.tables import Row, find_tables, read_table
from overseer_training.data.sources.kaggle.times import Parser, find_parser, write_series
from overseer_training.errors import DataError

SERIES = "series"
ROWS_LOOKED_AT = 500
LEAST_SHARE = 0.95  # of the values of a column that must be numbers; chosen
LEAST_ROWS = 12  # shorter ones show nothing; chosen: an hour of 5 minutes
MOST_ROWS = 1_000_000  # of one series, which is sorted in memory; chosen
MOST_SERIES = 200  # of one data set; chosen: a set of 1,250 machines teaches little that 200 do not
TIME_NAME = re.compile(r"(?i)time|date|stamp|epoch")
Point = tuple[float, list[float | None]]


def convert(source: pathlib.Path, target: pathlib.Path, dataset: Dataset) -> tuple[dict[str, int], list[str]]:
    """Write the series of all tables below `source` to `target`; (counts, what a person should know).

    Raises:
        DataError: none of them has a series.
    """
    notes: list[str] = []
    counts = {"tables": 0, "series": 0, "points": 0, "rows_without_time": 0, "tables_beyond_limit": 0}
    for table in find_tables(source):
        if counts["tables"] == MOST_SERIES:
            counts["tables_beyond_limit"] += 1
            continue
        try:
            names, points, without_time, description = _read(table, dataset)
        except DataError as error:
            notes.append(f"{table.relative_to(source)}: left out, {error}")
            continue
        path = target / SERIES / name_below(source, table)
        counts["points"] += write_series(path, names, points)
        counts["rows_without_time"] += without_time
        counts["tables"] += 1
        counts["series"] += len(names)
        notes.append(f"{table.relative_to(source)}: {description}")
    if not counts["series"]:
        raise DataError(f"{dataset.slug} has no series: {'; '.join(notes) or 'it has no tables'}")
    return counts, notes


def name_below(source: pathlib.Path, path: pathlib.Path) -> str:
    """A file name that no other file below `source` gets."""
    return "--".join(path.relative_to(source).parts) + ".csv"


def _read(table: pathlib.Path, dataset: Dataset) -> tuple[list[str], list[Point], int, str]:
    sample = list(itertools.islice(read_table(table), ROWS_LOOKED_AT))
    columns = list(dict.fromkeys(name for row in sample for name in row))
    values = {name: [row[name] for row in sample if row.get(name)] for name in columns}
    found = _find_time(values)
    time_column, parser = found or (None, None)
    if found is None and dataset.step_seconds is None:
        raise DataError("it has no column of times; give 'step_seconds' where its rows are evenly spaced")
    metrics = [name for name in columns if name != time_column and _is_numeric(values[name])]
    if not metrics:
        raise DataError("it has no column of numbers")
    points: list[Point] = []
    without_time = 0
    for time, row in _timed(table, time_column, parser, dataset.step_seconds):
        if time is None:
            without_time += 1
        elif len(points) == MOST_ROWS:
            raise DataError(f"it has more than {MOST_ROWS:,} rows")
        else:
            points.append((time, [_number(row.get(name, "")) for name in metrics]))
    if len(points) < LEAST_ROWS:
        raise DataError(f"it has {len(points)} rows with a time, and {LEAST_ROWS} are needed")
    shown = f"times from {time_column!r}" if found else f"a row each {dataset.step_seconds} seconds"
    return _plain_names(metrics), points, without_time, f"{shown}, {len(metrics)} metrics, {len(points)} points"


def _timed(
    table: pathlib.Path, column: str | None, parser: Parser | None, step_seconds: int | None
) -> Iterator[tuple[float | None, Row]]:
    for number, row in enumerate(read_table(table)):
        if column is None or parser is None:
            yield float(number * (step_seconds or 0)), row
        else:
            yield parser(row.get(column, "")), row


def _find_time(values: dict[str, list[str]]) -> tuple[str, Parser] | None:
    """The column of times: one that is called so, else the first whose values are dates."""
    for name in sorted(values, key=lambda name: TIME_NAME.search(name) is None):
        parser = find_parser(values[name], accept_numbers=TIME_NAME.search(name) is not None)
        if parser is not None:
            return name, parser
    return None


def _is_numeric(values: Sequence[str]) -> bool:
    return bool(values) and sum(_number(value) is not None for value in values) / len(values) >= LEAST_SHARE


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _plain_names(names: Sequence[str]) -> list[str]:
    """`CPU usage [%]` as `cpu_usage_percent`; each once."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower().replace("%", " percent")).strip("_") or f"metric_{number}"
        found.append(plain if plain not in (*found, "time") else f"{plain}_{number}")
    return found
