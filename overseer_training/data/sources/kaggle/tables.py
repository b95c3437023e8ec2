"""Reads the rows of a table in whatever form a data set has it: CSV with any separator, JSON, JSON lines.

Takes a path; gives mappings of column to text. Interprets nothing.
"""

from __future__ import annotations

import csv
import itertools
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from overseer_training.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")
SEPARATORS = (",", ";", "\t", "|")
LINES_LOOKED_AT = 20
LARGEST_JSON_BYTES = 256 << 20  # it is read whole; chosen
LONGEST_FIELD_BYTES = 1 << 20
NUMBER = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*")
Row = dict[str, str]


def find_tables(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files below `folder` that may be tables, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)


def read_table(path: pathlib.Path) -> Iterator[Row]:
    """The rows of `path`; columns without a name are called column_1, column_2, ...

    Raises:
        DataError: it is no table.
    """
    csv.field_size_limit(LONGEST_FIELD_BYTES)
    try:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            yield from _json_lines(path)
        elif path.suffix.lower() == ".json":
            yield from _json(path)
        else:
            yield from _separated(path)
    except (OSError, csv.Error, ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no table that can be read: {error}") from error


def _text_encoding(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _separated(path: pathlib.Path) -> Iterator[Row]:
    # Bytes that are no UTF-8 become U+FFFD, which converters leave out: a guessed encoding would teach wrong names.
    with path.open(encoding=_text_encoding(path), errors="replace", newline="") as file:
        start = [line for line in itertools.islice(file, LINES_LOOKED_AT) if line.strip()]
        separator = _find_separator(start)
        file.seek(0)
        reader = csv.reader(file, delimiter=separator, skipinitialspace=True)
        first = next(reader, [])
        names = [field.strip() for field in first]
        if first and all(NUMBER.fullmatch(field) for field in first):
            names = [""] * len(first)
            reader = itertools.chain([first], reader)  # type: ignore[assignment]
        names = _unique(names)
        for fields in reader:
            if fields:
                yield {name: field.strip() for name, field in zip(names, fields, strict=False)}


def _find_separator(lines: list[str]) -> str:
    """The separator that cuts every one of `lines` into most fields."""
    fewest = {mark: min((len(row) for row in csv.reader(lines, delimiter=mark)), default=1) for mark in SEPARATORS}
    return max(SEPARATORS, key=lambda mark: fewest[mark])


def _unique(names: list[str]) -> list[str]:
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        found.append(name if name and name not in found else f"{name or 'column'}_{number}")
    return found


def _json_lines(path: pathlib.Path) -> Iterator[Row]:
    with path.open(encoding=_text_encoding(path), errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield from _records([json.loads(line)])
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from None


def _json(path: pathlib.Path) -> Iterator[Row]:
    if path.stat().st_size > LARGEST_JSON_BYTES:
        raise ValueError(f"JSON of more than {LARGEST_JSON_BYTES:,} bytes is not read")
    text = path.read_text(_text_encoding(path), "replace")
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        yield from _json_lines(path)  # many files that are called .json hold lines
        return
    if isinstance(document, dict):  # {"1": {...}, "2": {...}} or {"data": [{...}]}
        values = list(document.values())
        inner = max((value for value in values if isinstance(value, list)), key=len, default=None)
        document = inner if inner is not None else values
    yield from _records(document if isinstance(document, list) else [])


def _records(values: list[Any]) -> Iterator[Row]:
    for value in values:
        if isinstance(value, dict):
            yield {str(name): _as_text(field) for name, field in value.items()}


def _as_text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value) if isinstance(value, int | float) else ""
