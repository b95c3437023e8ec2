"""Rows of an earlier run: found by whoever asks for the same, checked, few, and never those of anybody's own."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable

import pytest

from overseer_training.config.plan import Plan
from overseer_training.data.cache import cache_key, fetch_rows, keep_rows
from overseer_training.data.row_file import copy_rows, read_quarantine
from overseer_training.files import write_json, write_text
from overseer_training.records import Example, Turn

PlanOf = Callable[..., Plan]
ROW = Example("a", "f", "command", (Turn("user", "list"), Turn("assistant", "ls")), "linux", "corpus")


@pytest.mark.parametrize(
    "flags",
    [
        ("--seed", "7"),
        ("--composed-rows", "7"),
        ("--augmented-copies", "1"),
        ("--macos-share", "0.5"),
        ("--prediction-rows", "9"),
        ("--variant-share", "0.5"),
    ],
)
def test_another_value_that_decides_rows_is_another_key(flags: tuple[str, str], plan_of: PlanOf) -> None:
    assert cache_key(plan_of(*flags)) != cache_key(plan_of()) is not None


def test_what_decides_no_rows_keeps_the_key(plan_of: PlanOf) -> None:
    plain = cache_key(plan_of())
    assert plain == cache_key(plan_of("--learning-rate", "1e-4", "--test-tasks", "3", "--sequence-length", "99"))


@pytest.mark.parametrize(
    "flags",
    [
        ("--sources", "tldr"),
        ("--sources", "mine.jsonl"),
        ("--continuous-learning",),
        ("--use-existing-data",),
        ("--download-data",),
        ("--llm-integration",),
    ],
)
def test_rows_that_are_not_all_of_the_corpus_have_no_key(flags: tuple[str, ...], plan_of: PlanOf) -> None:
    assert cache_key(plan_of(*flags)) is None


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
    """Rows and tokens of a run."""
    folder = tmp_path / "run" / "data"
    with_rows(folder)
    return folder


def with_rows(folder: pathlib.Path) -> None:
    copy_rows({"train": [ROW], "validation": [ROW]}, folder)
    for name in ("ids", "labels", "starts"):
        write_text(folder / "tokens" / name, name)
    write_json(folder / "tokens" / "manifest.json", {"made_from": "x"})


def test_a_second_run_gets_the_rows_and_tokens_of_the_first(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    cache, second = tmp_path / "cache", tmp_path / "second" / "data"
    assert fetch_rows(cache, "key", second) is None and not second.exists()
    keep_rows(cache, "key", data)
    rows = fetch_rows(cache, "key", second)
    assert rows is not None and {split: list(found) for split, found in rows.items()} == {
        "train": [ROW],
        "validation": [ROW],
    }
    files = {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert files == {path.relative_to(second): path.read_bytes() for path in second.rglob("*") if path.is_file()}
    assert list(read_quarantine(second)) == []


def test_a_run_that_writes_its_rows_anew_changes_nothing_that_is_kept(
    data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    keep_rows(tmp_path / "cache", "key", data)
    copy_rows({"train": [], "validation": []}, data)
    rows = fetch_rows(tmp_path / "cache", "key", tmp_path / "second")
    assert rows is not None and len(rows["train"]) == 1


@pytest.mark.parametrize("name", ["train.jsonl", "manifest.json"])
def test_damaged_rows_are_made_again(
    name: str, data: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, second = tmp_path / "cache", tmp_path / "second"
    keep_rows(cache, "key", data)
    (cache / "key" / name).write_bytes(b'{"id": 1}\n')
    with caplog.at_level(logging.WARNING):
        assert fetch_rows(cache, "key", second) is None
    assert "made again" in caplog.text
    assert not (second / "manifest.json").exists() and not (second / "tokens").exists()
    assert not (cache / "key").exists()


def test_the_newest_two_are_kept_and_use_counts(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    cache = tmp_path / "cache"
    for age, key in enumerate(("a", "b")):
        keep_rows(cache, key, data)
        os.utime(cache / key, (1e9 + age, 1e9 + age))
    assert fetch_rows(cache, "a", tmp_path / "second") is not None
    keep_rows(cache, "c", data)
    assert sorted(path.name for path in cache.iterdir()) == ["a", "c"]


def test_other_tokens_of_the_same_rows_take_the_place_of_the_first(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    cache = tmp_path / "cache"
    keep_rows(cache, "key", data)
    write_json(data / "tokens" / "manifest.json", {"made_from": "another tokenizer"})
    keep_rows(cache, "key", data)
    assert (cache / "key/tokens/manifest.json").read_bytes() == (data / "tokens/manifest.json").read_bytes()


def test_a_cache_that_cannot_be_written_stops_nothing(
    data: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    keep_rows(tmp_path / "cache", "key", data)
    assert "not kept" in caplog.text
    assert fetch_rows(tmp_path / "cache", "key", tmp_path / "second") is None
