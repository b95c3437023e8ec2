"""A GGUF file asked and judged as the trained model was: a real server, and a real sandbox where this machine has one."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shutil

import pytest

from overseer_training.errors import DataError
from overseer_training.evaluation.runner import Evaluator
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.export import export_run as export_run_module
from overseer_training.export.accuracy import command_suite, measure_accuracy, read_verdicts
from overseer_training.export.export_run import export_run
from overseer_training.export.gguf_file import write_gguf
from overseer_training.models.llama_file import Completion, LlamaFile
from overseer_training.records import RunPaths

SCRIPTS = {"empty": ("touch notes.txt", "")}


def task(name: str, reference: str, kind: str = "command") -> Task:
    return Task(name, kind, {"fixture": "empty", "query": name, "references": [reference]}, name)


SUITE = Suite((task("list", "ls"), task("here", "pwd"), task("count", "ls | wc -l")), SCRIPTS)


def test_answers_of_the_file_are_judged_and_compared(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that nobody trained say nothing right: what is right or wrong is put in its place, after the file was asked."""
    write_gguf(llama_folder, tmp_path / "model.gguf")
    evaluator = Evaluator(SUITE)
    if evaluator.score(["ls", "pwd", "ls"]).scores["command_accuracy"].value is None:
        pytest.skip("no sandbox on this machine")
    answers = iter(["ls", "ls", "```sh\nls | wc -l\n```"])
    ask = LlamaFile.find_likeliest

    def answer(file: LlamaFile, messages: list[dict[str, str]], max_new_tokens: int) -> Completion:
        return dataclasses.replace(ask(file, messages, 2), text=next(answers))

    monkeypatch.setattr(LlamaFile, "find_likeliest", answer)
    found = measure_accuracy(
        tmp_path / "model.gguf", evaluator, {"list": True, "here": True, "count": False}, threads=1
    )
    assert found.scores["command_accuracy"].n == 3
    assert found.scores["command_accuracy"].value == pytest.approx(2 / 3)
    assert (found.compared, found.lost, found.gained) == (3, 1, 1)
    assert "commands right: 66.7%" in found.as_text()
    assert "1 lost and 1 gained" in found.as_text()


def test_export_reports_what_each_file_cost(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_run_module, "measure_accuracy", functools.partial(measure_accuracy, threads=1))
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(llama_folder, paths.model)
    record = {"id": "list", "kind": "command", "trained": {"command": "ls", "equal": True, "reason": ""}}
    paths.answers.write_text(json.dumps(record) + "\n")
    said: list[str] = []
    evaluator = Evaluator(command_suite(SUITE, 1))
    manifest = export_run(paths, ("gguf-f16", "gguf-q8_0"), evaluator=evaluator, notify=said.append)
    entries = {entry["path"]: entry for entry in manifest["files"]}
    for name in ("model.gguf", "model-q8_0.gguf"):
        score = entries[name]["accuracy"]["scores"]["command_accuracy"]
        assert score["n"] + score["unscored"] == 1
        assert any(line.startswith(f"{name}: commands") for line in said)
    assert "model-q8_0.gguf" in (paths.export / "README.md").read_text()


def test_command_suite_takes_commands_only() -> None:
    mixed = Suite((task("a", "ls", "repair"), *SUITE.tasks), SCRIPTS)
    assert [chosen.id for chosen in command_suite(mixed, 2).tasks] == ["list", "here"]


def test_verdicts_of_a_run_without_answers_are_none_and_damaged_ones_an_error(tmp_path: pathlib.Path) -> None:
    assert read_verdicts(tmp_path / "answers.jsonl") == {}
    (tmp_path / "answers.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match="evaluate the run again"):
        read_verdicts(tmp_path / "answers.jsonl")
