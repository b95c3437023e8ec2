"""The data sets of Kaggle on this machine: fetched, unpacked and converted once; listed and read without a network.

Takes `Dataset`s; keeps `kaggle/OWNER/NAME/` in the cache: the archive as it came, and `processed/`, whose manifest.json has licence,
counts and hashes. `find_processed` and what builds on it open no connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from overseer_training.data.sources.kaggle import command_pairs, line_counts, series
from overseer_training.data.sources.kaggle.archive import extract
from overseer_training.data.sources.kaggle.client import Archive, Progress, download
from overseer_training.data.sources.kaggle.reviewed import Dataset
from overseer_training.data.sources.pairs import NoPair, read_pairs
from overseer_training.errors import DataError, NotAvailableError
from overseer_training.files import sha256, staged_folder, write_json
from overseer_training.records import Example

FORMAT = 1  # a new one converts the archives again
PROCESSED, MANIFEST, SCRATCH = "processed", "manifest.json", "unpacked"
CONVERTERS = {"pairs": command_pairs.convert, "line_counts": line_counts.convert, "series": series.convert}
Notify = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Processed:
    """A data set that is ready for use; the fields are those of its manifest.

    Attributes:
        counts: what came out and what was left out, by converter.
        notes: per file what was found in it, or why it was left out.
    """

    slug: str
    kind: str
    converter: str
    version: int
    licence: str
    counts: dict[str, int]
    notes: tuple[str, ...]
    folder: pathlib.Path

    @property
    def source(self) -> str:
        """The name that its rows carry."""
        return f"kaggle:{self.slug}"

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items() if count)
        return f"{self.slug} version {self.version} ({self.licence}): {counts}"


def kaggle_folder() -> pathlib.Path:
    """Where data sets are kept: below $OVERSEER_CACHE, else the user's cache folder, like base models."""
    cache = os.environ.get("OVERSEER_CACHE")
    if cache is None:
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "overseer-training")
    return pathlib.Path(cache).expanduser() / "kaggle"


def fetch(
    datasets: Sequence[Dataset], notify: Notify = lambda message: None, progress: Progress = lambda done, total: None
) -> list[Processed]:
    """Download, unpack and convert `datasets`, as far as that was not done before; one that cannot be used is told and passed over.

    Raises:
        NotAvailableError: no network or no valid credentials; nothing else could be fetched either.
        DataError: none of them can be used.
    """
    processed, problems = [], []
    for dataset in datasets:
        try:
            processed.append(prepare(dataset, notify, progress))
        except DataError as error:
            problems.append(str(error))
            notify(f"{dataset.slug} is left out: {error}")
    if problems and not processed:
        raise DataError(f"none of {len(datasets)} Kaggle data sets can be used; the first: {problems[0]}")
    return processed


def prepare(
    dataset: Dataset, notify: Notify = lambda message: None, progress: Progress = lambda done, total: None
) -> Processed:
    """One data set, ready for use.

    Raises:
        NotAvailableError, DataError: see `client.download`, `archive.extract` and the converters.
    """
    folder = kaggle_folder() / dataset.slug
    with _only_one_in(folder):
        archive = download(dataset.slug, folder, progress)
        if dataset.licence is not None and dataset.licence != archive.licence:
            raise DataError(
                f"Kaggle states the licence {archive.licence!r} for {dataset.slug}, the list says {dataset.licence!r}; "
                "read it on its page and correct the list"
            )
        wanted = _wanted(dataset, archive)
        if _read_manifest(folder / PROCESSED).get("made_from") != wanted:
            _convert(dataset, archive, wanted, folder)
    processed = _load(folder / PROCESSED)
    for line in (str(processed), *processed.notes):
        notify(line)
    return processed


def find_processed() -> list[Processed]:
    """All data sets that are ready for use, by slug.

    Raises:
        DataError: a file of one changed since it was made.
    """
    return [_load(path.parent) for path in sorted(kaggle_folder().glob(f"*/*/{PROCESSED}/{MANIFEST}"))]


def read_rows(slugs: Sequence[str] | None = None) -> Iterator[Example | NoPair]:
    """The rows of the data sets with pairs, all of them or those of `slugs`, and what is no pair.

    Raises:
        DataError: there are none on this machine, or their files changed.
    """
    found = [one for one in find_processed() if one.converter == "pairs" and (slugs is None or one.slug in slugs)]
    if not found:
        raise DataError("no Kaggle data set with commands is on this machine; get them with --download-data")
    for one in found:
        for row in read_pairs(one.folder / command_pairs.PAIRS):
            identity = f"{one.source}/{row.id}"
            if isinstance(row, NoPair):
                yield NoPair(identity)
            else:
                yield dataclasses.replace(row, id=identity, family=f"{one.source}/{row.answer}", source=one.source)


def series_files() -> list[tuple[Processed, pathlib.Path]]:
    """The series of metrics and logs on this machine: CSV with `time` in seconds since 1970."""
    return [(one, path) for one in find_processed() for path in sorted((one.folder / series.SERIES).glob("*.csv"))]


def licences() -> dict[str, str]:
    """The licence of each source of rows and series, for the manifest of a run."""
    return {one.source: one.licence for one in find_processed()}


@contextlib.contextmanager
def _only_one_in(folder: pathlib.Path) -> Iterator[None]:
    """Of two runs that want the same data set, the second waits and finds it done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise NotAvailableError(
            f"{folder} cannot be written: {error.strerror}; set OVERSEER_CACHE to a folder of yours"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wanted(dataset: Dataset, archive: Archive) -> dict[str, Any]:
    """What a conversion depends on."""
    options = {key: value for key, value in dataclasses.asdict(dataset).items() if key not in ("licence", "slug")}
    return {
        "format": FORMAT,
        "archive_sha256": archive.sha256,
        "version": archive.version,
        "licence": archive.licence,
        **options,
    }


def _convert(dataset: Dataset, archive: Archive, wanted: dict[str, Any], folder: pathlib.Path) -> None:
    scratch = folder / SCRATCH
    try:
        extract(archive.path, scratch)
        with staged_folder(folder / PROCESSED) as staging:
            counts, notes = CONVERTERS[dataset.converter](scratch, staging, dataset)
            hashes = {str(p.relative_to(staging)): sha256(p) for p in sorted(staging.rglob("*")) if p.is_file()}
            write_json(
                staging / MANIFEST,
                {
                    "slug": dataset.slug, "kind": dataset.kind, "converter": dataset.converter,
                    "version": archive.version, "licence": archive.licence, "archive_bytes": archive.bytes,
                    "counts": counts, "notes": notes, "files": hashes, "made_from": wanted,
                },
            )  # fmt: skip
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}; make room and run again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _load(folder: pathlib.Path) -> Processed:
    manifest = _read_manifest(folder)
    try:
        damaged = [name for name, digest in manifest["files"].items() if sha256(folder / name) != digest]
        if not damaged:
            return Processed(
                manifest["slug"], manifest["kind"], manifest["converter"], manifest["version"], manifest["licence"],
                manifest["counts"], tuple(manifest["notes"]), folder,
            )  # fmt: skip
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} is damaged ({error}); delete it and run again with --download-data") from error
    raise DataError(f"{folder} changed since it was made ({damaged[0]}); delete it and run again with --download-data")
