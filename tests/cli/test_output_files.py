"""Files that `overseer predict` and `overseer evaluate` are to write: a wrong path is said before a model is loaded, and costs no scores."""

from __future__ import annotations

import json
import pathlib
import types
from collections.abc import Callable
from typing import Any

import pytest

from overseer_training import cli, prediction_file
from overseer_training.evaluation.runner import Evaluator
from overseer_training.models import load


@pytest.fixture
def arguments(tmp_path: pathlib.Path) -> dict[str, list[str]]:
    """What each command needs besides the file."""
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"id": 1, "query": "list files"}\n')
    return {
        "--output": ["predict", "--model", str(tmp_path), "--input", str(requests)],
        "--answers": ["evaluate", "--model", str(tmp_path), "--limit", "0"],
    }


@pytest.mark.parametrize("option", ["--output", "--answers"])
def test_a_folder_is_no_file_to_write(
    arguments: dict[str, list[str]], option: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Was a traceback, of `evaluate` after hours."""
    assert cli.main([*arguments[option], option, str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {option}: {tmp_path} is a folder; name a file") and said.count("\n") == 1


@pytest.mark.parametrize("option", ["--output", "--answers"])
def test_a_file_is_no_folder_to_write_into(
    arguments: dict[str, list[str]], option: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments[option], option, str(tmp_path / "requests.jsonl" / "a.jsonl")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {option}: ") and "cannot be made" in said and said.count("\n") == 1


def test_the_folder_of_the_predictions_is_made(
    arguments: dict[str, list[str]], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Was a FileNotFoundError when the model had been loaded."""

    def answer(model: object, asked: list[Any], *, on_batch: Callable[..., None], **_: Any) -> None:
        on_batch([0], ["ls"])

    monkeypatch.setattr(prediction_file, "load_trained", lambda model: None)
    monkeypatch.setattr(prediction_file, "generate", answer)
    output = tmp_path / "out" / "more" / "a.jsonl"
    assert cli.main([*arguments["--output"], "--output", str(output)]) == 0
    assert json.loads(output.read_text())["command"] == "ls"


def test_scores_are_printed_even_where_the_answers_cannot_be_written(
    arguments: dict[str, list[str]],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "out" / "answers.jsonl"

    def evaluate(self: Evaluator, *_: Any) -> Any:
        target.mkdir()  # meanwhile
        score = types.SimpleNamespace(as_dict=lambda: {"n": 4, "value": 0.75})
        return types.SimpleNamespace(answers=[], scores={"command_accuracy": score})

    monkeypatch.setattr(load, "load_trained", lambda model: None)
    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    with pytest.raises(IsADirectoryError):
        cli.main([*arguments["--answers"], "--json", "--answers", str(target)])
    assert json.loads(capsys.readouterr().out)["command_accuracy"]["value"] == 0.75
