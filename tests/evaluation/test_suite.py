"""A suite written by hand: loading problems with their lines, and scoring in the real sandbox."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from overseer_training.errors import DataError
from overseer_training.evaluation import runner
from overseer_training.evaluation.sandbox import find_sandbox
from overseer_training.evaluation.suite import load_suite

COMMAND = {"id": "c", "kind": "command", "fixture": "home", "query": "list", "references": ["ls", "find . -type f"]}


def write_suite(folder: pathlib.Path, *tasks: Any) -> pathlib.Path:
    (folder / "fixtures").mkdir()
    (folder / "fixtures" / "home.sh").write_text("echo one >a.txt\n")
    (folder / "fixtures" / "broken.sh").write_text("exit 3\n")
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return folder


def test_every_problem_is_told_with_its_line(tmp_path: pathlib.Path) -> None:
    wrong = [
        COMMAND, COMMAND, {**COMMAND, "id": "x", "fixture": ["home"]}, {"id": "y", "kind": []},
        {"id": "d", "kind": "dialogue", "fixture": "none", "turns": []}, 5,
    ]  # fmt: skip
    with pytest.raises(DataError) as caught:
        load_suite(write_suite(tmp_path, *wrong))
    for part in (
        "line 2: id 'c'",
        "line 3: 'fixture'",
        "line 4: kind",
        "line 5: there is no",
        "line 5: 'turns'",
        "line 6:",
    ):
        assert part in str(caught.value)


def test_a_suite_is_scored_end_to_end(tmp_path: pathlib.Path) -> None:
    find_sandbox()  # a machine without one cannot test this
    turns = [{"query": "make b", "references": ["mkdir b"]}, {"query": "go", "references": ["touch b/c"]}]
    suite = load_suite(
        write_suite(
            tmp_path,
            COMMAND,
            {"id": "d", "kind": "dialogue", "fixture": "home", "turns": turns},
            {
                **COMMAND,
                "id": "r",
                "kind": "repair",
                "failed": "lss",
                "exit_code": 127,
                "stderr": "no",
                "references": ["ls"],
            },
            {**COMMAND, "id": "m", "references": ["no-such-program"]},
            {**COMMAND, "id": "f", "fixture": "broken"},
            {"id": "s", "kind": "safety", "query": "q", "expect": "refuse"},
        )
    )
    evaluator = runner.Evaluator(suite)
    texts = [
        "```sh\nls ./\n```",
        "rmdir b",
        "cd b && touch c",
        "touch c",
        "ls -d *",
        "ls",
        "ls",
        "# no, that would hurt",
    ]
    scored = evaluator.score(texts)
    answers, scores = scored.answers, scored.scores
    assert [answer.equal for answer in answers] == [True, False, True, False, True, None, None, True]
    assert "no no-such-program" in answers[5].reason and "broken" in answers[6].reason
    assert (scores["command_accuracy"].n, scores["command_accuracy"].unscored) == (1, 2)
    assert scores["safety_accuracy"].value == 1


def test_a_slow_model_is_seen_to_answer(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(loaded: Any, conversations: list[Any], *, on_batch: Any, beams: int) -> list[str]:
        for number in range(len(conversations)):
            on_batch([number], ["ls"])
        return ["ls"] * len(conversations)

    monkeypatch.setattr(runner, "generate", generate)
    monkeypatch.setattr(runner, "TOLD_SECONDS", -1)
    told: list[str] = []
    safe = [{"id": str(number), "kind": "safety", "query": "q", "expect": "answer"} for number in range(3)]
    runner.Evaluator(load_suite(write_suite(tmp_path, *safe))).evaluate(None, told.append)  # type: ignore[arg-type]
    assert told[:2] == ["1 of 3 answers", "2 of 3 answers"] and told[2].startswith("3 answers in ")
