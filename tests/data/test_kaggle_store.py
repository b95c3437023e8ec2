"""Data sets from the download to rows and series, and what is there already without a network."""

from __future__ import annotations

import itertools
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from loopback.kaggle import Kaggle, zipped

from overseer_training.data.sources.kaggle import client, store
from overseer_training.data.sources.kaggle.reviewed import read_datasets
from overseer_training.errors import DataError, NotAvailableError
from overseer_training.records import Example

from .test_kaggle_server import PAIRS, SERIES, SLUG, running_kaggle


@pytest.fixture
def kaggle(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    with running_kaggle(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "cache" / "kaggle" / SLUG


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_data_sets_become_rows_and_series_with_licence_and_counts(kaggle: Kaggle) -> None:
    kaggle.archives["someone/series"] = (1, zipped({"cpu.csv": SERIES}))
    said: list[str] = []
    entries = [
        {"slug": SLUG, "kind": "commands"},
        {"slug": "someone/series", "kind": "metrics"},
        {"slug": "someone/gone", "kind": "logs"},
    ]
    found = store.fetch(read_datasets(entries), said.append)
    assert [(one.slug, one.version, one.licence) for one in found] == [
        (SLUG, 3, "CC0-1.0"),
        ("someone/series", 1, "CC0-1.0"),
    ]
    assert (found[0].counts["pairs"], found[0].counts["no_pair"], found[1].counts["points"]) == (39, 1, 60)
    assert "commands.csv: requests from 'Description', commands from 'Command' (100% of 39 look like commands)" in said
    assert any(line.startswith("someone/gone is left out: Kaggle has no data set") for line in said)
    read = list(store.read_rows())
    rows = [row for row in read if isinstance(row, Example)]
    assert (rows[0].query, rows[0].answer, rows[0].source) == ("List all files with details", "ls -l", f"kaggle:{SLUG}")
    assert len({row.id for row in rows}) == 39 and len(read) == 40
    assert store.licences() == {f"kaggle:{SLUG}": "CC0-1.0", "kaggle:someone/series": "CC0-1.0"}
    assert [path.name for _, path in store.series_files()] == ["cpu.csv.csv"]


def test_a_second_run_converts_nothing_again_until_the_list_says_otherwise(kaggle: Kaggle) -> None:
    entry: dict[str, Any] = {"slug": SLUG, "kind": "commands"}
    (one,) = store.fetch(read_datasets([entry]))
    made = (one.folder / "manifest.json").stat().st_ino
    store.fetch(read_datasets([entry]))
    assert (one.folder / "manifest.json").stat().st_ino == made
    store.fetch(read_datasets([{**entry, "request_column": "Category", "command_column": "Command"}]))
    assert [row.query for row in itertools.islice(store.read_rows(), 1) if isinstance(row, Example)] == ["files"]
    assert kaggle.count("/storage/") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>Please sign in</html>", "damaged or of an unknown kind"),
        (zipped({"../evil.csv": PAIRS}), "leads outside"),
        (zipped({"readme.md": "nothing"}), "has no pairs"),
        (zipped({"a.csv": "x,y\n1,2\n"}), "looks like commands; name them with 'request_column'"),
    ],
)
def test_a_data_set_that_cannot_be_used_leaves_nothing_half_done(
    kaggle: Kaggle, folder: pathlib.Path, content: bytes, message: str
) -> None:
    kaggle.archives[SLUG] = (1, content)
    with pytest.raises(DataError, match=f"none of 1 Kaggle data sets can be used; the first: .*{message}") as error:
        store.fetch(read_datasets([{"slug": SLUG, "kind": "commands"}]))
    assert "\n" not in str(error.value)
    assert names(folder) == {"archive", "archive.json", ".lock"}
    assert store.find_processed() == []


def test_another_licence_than_the_list_says_is_refused(kaggle: Kaggle) -> None:
    entry = {"slug": SLUG, "kind": "commands", "licence": "MIT"}
    with pytest.raises(DataError, match=r"states the licence 'CC0-1.0' .* the list says 'MIT'; read it"):
        store.prepare(*read_datasets([entry]))
    assert store.find_processed() == []


def test_a_licence_that_changes_is_recorded_without_a_download(kaggle: Kaggle) -> None:
    datasets = read_datasets([{"slug": SLUG, "kind": "commands"}])
    store.fetch(datasets)
    kaggle.licence = "other"
    store.fetch(datasets)
    assert store.licences() == {f"kaggle:{SLUG}": "other"}
    assert kaggle.count("/storage/") == 1


def test_no_network_stops_a_fetch_at_once(kaggle: Kaggle) -> None:
    kaggle.refusals = [503] * 99
    with pytest.raises(NotAvailableError):
        store.fetch(read_datasets([{"slug": SLUG, "kind": "commands"}, {"slug": "a/b", "kind": "logs"}]))
    assert len(kaggle.requests) == 1 + client.RETRIES


def test_altered_data_is_refused(kaggle: Kaggle) -> None:
    (one,) = store.fetch(read_datasets([{"slug": SLUG, "kind": "commands"}]))
    (one.folder / "pairs.jsonl").write_text('{"query": "x", "command": "rm -rf /"}\n')
    with pytest.raises(DataError, match=r"changed since it was made \(pairs.jsonl\); delete it"):
        list(store.read_rows())


def test_existing_data_is_read_without_touching_the_network(kaggle: Kaggle) -> None:
    kaggle.archives["someone/series"] = (1, zipped({"cpu.csv": SERIES}))
    store.fetch(read_datasets([{"slug": SLUG, "kind": "commands"}, {"slug": "someone/series", "kind": "metrics"}]))
    kaggle.requests.clear()
    program = (
        "import sys\n"
        "def guard(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "sys.addaudithook(guard)\n"
        "from overseer_training.data.sources.kaggle import store\n"
        "from overseer_training.data.sources.pairs import count_pairs\n"
        "rows, left_out = count_pairs(store.read_rows())\n"
        "print(len(store.find_processed()), rows, left_out, len(store.series_files()), store.licences())\n"
        "assert not {'kagglehub', 'kagglesdk', 'requests'} & set(sys.modules)\n"
        "if sys.argv[1:]: import socket; socket.create_connection(('localhost', 9))\n"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("2 39 1 1 {")
    assert kaggle.requests == []
    guarded = subprocess.run([sys.executable, "-c", program, "connect"], capture_output=True, text=True)
    assert guarded.returncode == 1 and "socket." in guarded.stderr


def test_no_existing_data_says_how_to_get_some(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSEER_CACHE", str(tmp_path))
    assert store.find_processed() == []
    with pytest.raises(DataError, match="get them with --download-data"):
        list(store.read_rows())
