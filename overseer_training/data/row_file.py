"""Rows on disk: written one by one, and read when they are asked for.

Takes rows with their splits; gives `{split}.jsonl`, `quarantine.jsonl`, `sealed.rows` (see sealed.py) and, last, `manifest.json`: present
means complete. Which rows there are is not decided here.
"""

from __future__ import annotations

import array
import collections
import contextlib
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, overload

from overseer_training.data.clean import SetAside
from overseer_training.data.digests import DigestSet, digest_of
from overseer_training.data.sealed import Sealer, read_sealed
from overseer_training.data.sources.corpus import Split
from overseer_training.data.sources.kaggle import store as kaggle
from overseer_training.errors import DataError
from overseer_training.files import make_folder, sha256, staged_file, write_json
from overseer_training.records import Example, Turn

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PERSONAL = "personal"  # rows of the owner's, held back
MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
QUARANTINE = "quarantine.jsonl"
TOKENS = "tokens"  # a folder of token_file.py
SEALED = "sealed.rows"  # encrypted: what says what the owner does
# Is told how many training rows each source has before any is kept; an error that it raises leaves nothing behind.
Admit = Callable[[Mapping[str, int]], None]
LICENCES = {"corpus": "Apache-2.0", "tldr": "CC-BY-4.0", "telemetry": "Apache-2.0"}


def accept(training_rows_by_source: Mapping[str, int]) -> None:
    """Let every source in."""


class RowFile(Sequence[Example]):
    """The rows of a split. Only the place of each is in memory, and that once a row is asked for by its number."""

    def __init__(self, path: pathlib.Path, count: int, sealed: Sequence[dict[str, Any]] | Sealer = ()) -> None:
        self._path, self._count, self._sealed = path, count, sealed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        with self._path.open("rb") as file:
            for line in file:
                yield _read(line, self._sealed)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        with self._path.open("rb") as file:
            if isinstance(index, slice):
                return [self._read_at(file, number) for number in range(*index.indices(self._count))]
            return self._read_at(file, index)

    def _read_at(self, file: IO[bytes], number: int) -> Example:
        file.seek(self._places[number])
        return _read(file.readline(), self._sealed)

    @functools.cached_property
    def _places(self) -> array.array[int]:
        """Where each row begins, in bytes."""
        places, place = array.array("q"), 0
        with self._path.open("rb") as file:
            for line in file:
                places.append(place)
                place += len(line)
        return places


class RowWriter:
    """Takes the rows of a run one by one; `write_rows` makes it.

    Attributes:
        training_sources: how many training rows each source has.
    """

    def __init__(self, files: dict[str, IO[bytes]], quarantine: IO[bytes]) -> None:
        self.training_sources: collections.Counter[str] = collections.Counter()
        self._files = {split: _File(file) for split, file in files.items()}
        self._quarantine = quarantine
        self._sealer = Sealer(_as_record)
        self._skills: collections.Counter[str] = collections.Counter()
        self._sources: collections.Counter[str] = collections.Counter()
        self._quarantined: collections.Counter[str] = collections.Counter()

    def add(self, split: str, example: Example) -> int:
        """Write a row; gives its place in the file, by which `read` finds it."""
        if split == "train":
            self._skills[example.skill] += 1
            self.training_sources[example.source] += 1
        self._sources[example.source] += 1
        return self._files[split].append(self._sealer.line_of(example), example.family)

    def set_aside(self, row: SetAside) -> None:
        """Note a row that is left out."""
        self._quarantined[row.reason] += 1
        self._quarantine.write(json.dumps({"reason": row.reason, "id": row.id}).encode() + b"\n")

    def read(self, split: str, place: int) -> Example:
        """The row that `add` put at `place`."""
        return _read(self._files[split].read(place), self._sealer)

    def rows(self, folder: pathlib.Path) -> dict[str, RowFile]:
        """What was written to `folder`, once it is whole."""
        return {
            split: RowFile(folder / f"{split}.jsonl", file.rows, self._sealer) for split, file in self._files.items()
        }

    def finish(self, folder: pathlib.Path) -> dict[str, Any]:
        """Write the encrypted rows to `folder`; gives the manifest of all files."""
        digests = {f"{split}.jsonl": file.digest.hexdigest() for split, file in self._files.items()}
        if self._sealer.write(folder / SEALED):
            digests[SEALED] = sha256(folder / SEALED)
        licences = {**LICENCES, **kaggle.licences()}
        return {
            "format": MANIFEST_FORMAT,
            "splits": {
                split: {"rows": file.rows, "families": len(file.families)} for split, file in self._files.items()
            },
            "training_rows_by_skill": dict(sorted(self._skills.items())),
            "training_rows_by_source": dict(sorted(self.training_sources.items())),
            "sources": {
                name: {"rows": count, "licence": licences.get(name, "its owner's")}
                for name, count in sorted(self._sources.items())
            },
            "quarantined": dict(self._quarantined),
            "files": digests,
        }


class _File:
    """The file of a split while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.rows = 0
        self.families = DigestSet()
        self.digest = hashlib.sha256()
        self._file, self._end = file, 0

    def append(self, line: str, family: str) -> int:
        content = line.encode() + b"\n"
        self._file.write(content)
        self.digest.update(content)
        self.families.add(digest_of(family))
        self.rows += 1
        place, self._end = self._end, self._end + len(content)
        return place

    def read(self, place: int) -> bytes:
        self._file.seek(place)
        line = self._file.readline()
        self._file.seek(self._end)
        return line


@contextlib.contextmanager
def write_rows(folder: pathlib.Path, splits: Iterable[str] = SPLITS) -> Iterator[RowWriter]:
    """A writer whose rows are in `folder`, with a manifest, when the block ends without an error; nothing is there otherwise."""
    make_folder(folder)
    with contextlib.ExitStack() as stack:

        def staged(name: str) -> IO[bytes]:
            return stack.enter_context(stack.enter_context(staged_file(folder / name)).open("w+b"))

        writer = RowWriter({split: staged(f"{split}.jsonl") for split in splits}, staged(QUARANTINE))
        yield writer
        manifest = writer.finish(folder)
    write_json(folder / MANIFEST, manifest)


def copy_rows(
    rows: Mapping[str, Iterable[Example]],
    folder: pathlib.Path,
    left_out: Iterable[SetAside] = (),
    admit: Admit = accept,
) -> dict[str, RowFile]:
    """Write `rows`, given by split, and what was left out before, to `folder`; gives them as they are there."""
    with write_rows(folder, rows) as writer:
        for split, examples in rows.items():
            for example in examples:
                writer.add(split, example)
        for row in left_out:
            writer.set_aside(row)
        admit(writer.training_sources)
    return writer.rows(folder)


def read_rows(folder: pathlib.Path) -> dict[str, RowFile]:
    """What `write_rows` wrote, by split: checked against the manifest now, read later.

    Raises:
        DataError: the manifest is missing, or a file is not what it says.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != MANIFEST_FORMAT:
            raise DataError(f"{folder} was written by another version; start a new run")
        damaged = [name for name, digest in manifest["files"].items() if sha256(folder / name) != digest]
        if damaged:
            raise DataError(f"{folder}: {', '.join(damaged)} changed since the manifest was written; start a new run")
        sealed = read_sealed(folder / SEALED) if SEALED in manifest["files"] else []
        return {
            split: RowFile(folder / f"{split}.jsonl", int(counts["rows"]), sealed)
            for split, counts in manifest["splits"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} holds no readable data: {error}") from error


def read_quarantine(folder: pathlib.Path) -> Iterator[SetAside]:
    """What `write_rows` noted as left out."""
    with (folder / QUARANTINE).open("rb") as file:
        for line in file:
            yield SetAside(**json.loads(line))


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a folder whose rows were read or written before."""
    return dict(json.loads((folder / MANIFEST).read_text()))


def find_existing_data(runs: pathlib.Path) -> pathlib.Path | None:
    """The data folder of the newest run that has complete data, or None. Data with rows of the owner's is for the run that asked for it."""
    found = [path for path in runs.glob(f"*/data/{MANIFEST}") if not (path.parent / f"{PERSONAL}.jsonl").exists()]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def _as_record(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "family": example.family,
        "skill": example.skill,
        "turns": [turn.as_message() for turn in example.turns],
        "platform": example.platform,
        "source": example.source,
    }


def _read(line: bytes, sealed: Sequence[dict[str, Any]] | Sealer) -> Example:
    """The row of a line; of a reference, the row in `sealed` with its number."""
    record = json.loads(line)
    if "sealed" in record:
        record = dict(sealed[record["sealed"]])
    return Example(turns=tuple(Turn(**turn) for turn in record.pop("turns")), **record)
