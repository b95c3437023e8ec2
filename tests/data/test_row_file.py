"""Rows on disk: the same rows come back, in order and by number; what is damaged is refused; nothing personal is readable."""

from __future__ import annotations

import collections
import json
import os
import pathlib
from collections.abc import Callable

import pytest

from overseer_training.data.clean import SetAside
from overseer_training.data.row_file import copy_rows, find_existing_data, read_quarantine, read_rows, write_rows
from overseer_training.errors import DataError, UsageError
from overseer_training.records import Example, Turn


def row(number: int, answer: str = "ls", source: str = "corpus", skill: str = "command") -> Example:
    turns = (Turn("user", f"request {number}"), Turn("assistant", answer))
    return Example(f"row-{number}", f"family-{number // 2}", skill, turns, "linux", source)


ODD = Example("odd", "f", "repair", (Turn("user", 'a\u2028b\x85c\n"ü"'), Turn("assistant", "printf 'x\\n'")), "macos", "x.csv")  # fmt: skip
ROWS = {"train": [row(1), ODD, row(2, "ls -l")], "validation": [row(3)], "test": []}


def test_rows_read_back_as_they_were_written(tmp_path: pathlib.Path) -> None:
    written = copy_rows(ROWS, tmp_path)
    for found in (written, read_rows(tmp_path)):
        assert {split: list(rows) for split, rows in found.items()} == ROWS
        assert {split: len(rows) for split, rows in found.items()} == {"train": 3, "validation": 1, "test": 0}


def test_rows_are_found_by_number(tmp_path: pathlib.Path) -> None:
    train = copy_rows(ROWS, tmp_path)["train"]
    assert [train[number] for number in (2, 0, -2)] == [ROWS["train"][number] for number in (2, 0, -2)]
    assert train[::2] == ROWS["train"][::2] and train[5:] == []
    with pytest.raises(IndexError):
        train[3]


def test_a_row_that_was_just_written_can_be_read_and_writing_goes_on(tmp_path: pathlib.Path) -> None:
    with write_rows(tmp_path) as writer:
        places = [writer.add("train", one) for one in ROWS["train"]]
        assert [writer.read("train", place) for place in reversed(places)] == ROWS["train"][::-1]
        writer.add("train", row(9))
    assert list(read_rows(tmp_path)["train"]) == [*ROWS["train"], row(9)]


def test_the_manifest_counts_what_is_there(tmp_path: pathlib.Path) -> None:
    set_aside = [SetAside("repeated", "a"), SetAside("harmful", "b"), SetAside("repeated", "ü")]
    copy_rows(ROWS, tmp_path, set_aside)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["splits"] == {
        "train": {"rows": 3, "families": 3},
        "validation": {"rows": 1, "families": 1},
        "test": {"rows": 0, "families": 0},
    }
    assert manifest["training_rows_by_skill"] == {"command": 2, "repair": 1}
    assert manifest["training_rows_by_source"] == {"corpus": 2, "x.csv": 1}
    assert manifest["sources"] == {
        "corpus": {"rows": 3, "licence": "Apache-2.0"},
        "x.csv": {"rows": 1, "licence": "its owner's"},
    }
    assert list(read_quarantine(tmp_path)) == set_aside
    assert manifest["quarantined"] == dict(collections.Counter(one.reason for one in set_aside))


def test_a_source_that_is_refused_leaves_nothing(tmp_path: pathlib.Path) -> None:
    told = []

    def refuse(counts: collections.Counter[str]) -> None:
        told.append(dict(counts))
        raise UsageError("the policy says no")

    with pytest.raises(UsageError):
        copy_rows(ROWS, tmp_path, admit=refuse)  # type: ignore[arg-type]
    assert told == [{"corpus": 2, "x.csv": 1}] and list(tmp_path.iterdir()) == []


@pytest.fixture
def keys(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "a long passphrase for this test")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


def test_what_an_owner_did_is_on_disk_in_no_readable_form(tmp_path: pathlib.Path, keys: None) -> None:
    mine = row(4, "marker-command", "history")
    rows = {"train": [row(1), mine, mine], "validation": [mine]}
    for found in (copy_rows(rows, tmp_path / "data"), read_rows(tmp_path / "data")):
        assert {split: list(examples) for split, examples in found.items()} == rows
        assert found["train"][2] == mine
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"marker" not in path.read_bytes(), path
    assert (tmp_path / "data" / "train.jsonl").read_text().splitlines()[1:] == ['{"sealed": 0}'] * 2


@pytest.mark.parametrize(
    ("name", "change", "part"),
    [
        ("train.jsonl", lambda text: text.replace("request", "REQUEST", 1), "train.jsonl changed since"),
        ("train.jsonl", lambda text: text[:-5], "train.jsonl changed since"),
        ("validation.jsonl", None, "holds no readable data"),
        ("manifest.json", None, "holds no readable data"),
        ("manifest.json", lambda text: text[:-5], "holds no readable data"),
        ("manifest.json", lambda text: "[]", "holds no readable data"),
        ("manifest.json", lambda text: text.replace('"rows": 3', '"rows": "many"'), "holds no readable data"),
        ("manifest.json", lambda text: text.replace('"format": 1', '"format": 0'), "another version"),
    ],
)
def test_damaged_data_is_refused(
    name: str, change: Callable[[str], str] | None, part: str, tmp_path: pathlib.Path
) -> None:
    copy_rows(ROWS, tmp_path)
    path = tmp_path / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=part):
        read_rows(tmp_path)


def test_existing_data_is_that_of_the_newest_complete_run(tmp_path: pathlib.Path) -> None:
    assert find_existing_data(tmp_path) is None
    for age, name in enumerate(("new", "old")):
        copy_rows(ROWS, tmp_path / name / "data")
        os.utime(tmp_path / name / "data" / "manifest.json", (1e9 - age, 1e9 - age))
    (tmp_path / "torn" / "data").mkdir(parents=True)
    (tmp_path / "torn" / "data" / "train.jsonl").write_text("{")
    assert find_existing_data(tmp_path) == tmp_path / "new" / "data"
    (tmp_path / "new" / "data" / "personal.jsonl").write_text("")  # a run that learned from its owner
    assert find_existing_data(tmp_path) == tmp_path / "old" / "data"
