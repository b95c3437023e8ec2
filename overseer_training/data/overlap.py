"""Whether training rows share texts with files that a model is going to be measured with.

Takes rows and a folder or file of any benchmark; gives overlaps. Two texts overlap when they are equal but for case, blanks and
punctuation, or share a run of 13 words (Brown et al., "Language Models are Few-Shot Learners", 2020).
"""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from overseer_training.errors import DataError
from overseer_training.records import Example

RUN_WORDS = 13
WORD = re.compile(r"\w+")
SHORTEST_EQUAL_WORDS = 3  # `ls -l` and "list files" are no evidence
READ_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".yaml", ".yml")


@dataclasses.dataclass(frozen=True)
class Overlap:
    """A training row and a benchmark text that overlap; `kind` is `equal` or `13 words`."""

    row: str
    file: str
    kind: str
    text: str


def find_overlaps(rows: Iterable[Example], benchmark: pathlib.Path) -> Iterator[Overlap]:
    """Every overlap of a turn of `rows` with a text in `benchmark`, one for each turn.

    Raises:
        DataError: there is nothing to read.
    """
    equal: dict[tuple[str, ...], str] = {}
    runs: dict[tuple[str, ...], str] = {}
    for name, text in _texts(benchmark):
        words = _words(text)
        if len(words) >= SHORTEST_EQUAL_WORDS:
            equal.setdefault(words, name)
        for run in _runs(words):
            runs.setdefault(run, name)
    if not equal:
        raise DataError(f"{benchmark} holds no texts to compare with ({', '.join(READ_SUFFIXES)})")
    for row in rows:
        for turn in row.turns:
            words = _words(turn.content)
            if words in equal:
                yield Overlap(row.id, equal[words], "equal", turn.content)
                continue
            shared = next((run for run in _runs(words) if run in runs), None)
            if shared is not None:
                yield Overlap(row.id, runs[shared], f"{RUN_WORDS} words", turn.content)


def _texts(place: pathlib.Path) -> Iterator[tuple[str, str]]:
    """(file, text) of every text in the files at `place`: values of JSON and CSV, lines of everything else."""
    paths = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.suffix in READ_SUFFIXES)
    for path in paths:
        try:
            content = path.read_text("utf-8", "replace")
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        for text in _texts_of(content, path.suffix):
            yield path.name, text


def _texts_of(content: str, suffix: str) -> Iterator[str]:
    if suffix in (".csv", ".tsv"):
        for row in csv.reader(content.splitlines(), delimiter="\t" if suffix == ".tsv" else ","):
            yield from row
        return
    if suffix in (".json", ".jsonl"):
        try:
            yield from _strings([json.loads(content)])
            return
        except ValueError:
            pass  # not one document: one a line
        for line in content.split("\n"):
            try:
                yield from _strings([json.loads(line)])
            except ValueError:
                yield line
        return
    yield from content.split("\n")


def _strings(waiting: list[Any]) -> Iterator[str]:
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.casefold()))


def _runs(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (words[start : start + RUN_WORDS] for start in range(len(words) - RUN_WORDS + 1))
