"""Tools are recommended by whoever was measured to be right more often."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from overseer_training import cli
from overseer_training.commands.tools import worse_than_search


def run_with(folder: pathlib.Path, own: float | None, search: float) -> pathlib.Path:
    score: dict[str, Any] = {"n": 100, "value": own, "baseline": {"bm25": 0.1, "bm25_installed_first": search}}
    (folder / "model").mkdir(parents=True)
    (folder / "eval.json").write_text(json.dumps({"trained": {"tool_hit_at_1": score}}))
    return folder


def test_a_model_that_chooses_worse_than_the_search_is_not_asked(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OVERSEER_CACHE", str(tmp_path / "cache"))
    folder = run_with(tmp_path / "run", 0.17, 0.59)  # holds no model: it would be an error to load one
    assert cli.main(["tools", "see what fills the disk", "--model", str(folder)]) == 0
    said = capsys.readouterr()
    assert said.err == "note: by the search alone, which is right more often than this model: 59% against 17%, n = 100\n"
    assert len([line for line in said.out.splitlines() if not line.startswith(" ")]) == 3


def test_a_model_that_is_no_worse_or_was_not_measured_is_asked(tmp_path: pathlib.Path) -> None:
    assert "59% against 17%" in worse_than_search(run_with(tmp_path / "a", 0.17, 0.59) / "model")
    assert worse_than_search(run_with(tmp_path / "b", 0.6, 0.59)) == ""
    assert worse_than_search(run_with(tmp_path / "c", None, 0.59)) == ""
    assert worse_than_search(tmp_path) == ""
