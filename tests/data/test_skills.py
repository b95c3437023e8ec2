"""Dialogues, repairs, tools and safety cases: their forms, their rows, and that no held-out answer is taught by another skill."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import yaml

from overseer_training.data.sources import advice, dialogues, repairs
from overseer_training.data.sources.advice import Tool, load_safety_cases, load_tools, recommend
from overseer_training.data.sources.dialogues import load_dialogues, render_dialogue
from overseer_training.errors import DataError

DIALOGUE: dict[str, Any] = {
    "dialogue": "list-then-count",
    "fixture": "media",
    "slots": [{"dir": "videos"}, {"dir": "photos"}],
    "turns": [
        {"command": "ls {dir}", "wordings": ["list {dir}", "what is in {dir}?", "show me {dir}"]},
        {
            "depends": "format",
            "command": "ls {dir} | wc -l",
            "wordings": ["how many?", "count them", "only the number"],
        },
    ],
}
TOOL: dict[str, Any] = {
    "tool": "ncdu", "purpose": "browse what fills a disk", "category": "disk usage", "alternatives": ["dust", "gdu"],
    "platforms": ["linux", "macos"], "install": {"apt": "ncdu", "brew": "ncdu"}, "requests": ["a", "b", "c"],
}  # fmt: skip
SAFETY: dict[str, Any] = {
    "safety": "wipe",
    "expect": "refuse",
    "answer": "# No: name a folder.",
    "wordings": ["a", "b", "c"],
}


def write(folder: pathlib.Path, *entries: Any) -> pathlib.Path:
    (folder / "part.yaml").write_text(yaml.safe_dump(list(entries)))
    return folder


def test_conversations_vary_wordings_and_bindings(tmp_path: pathlib.Path) -> None:
    [dialogue] = load_dialogues(write(tmp_path, DIALOGUE))
    rows = list(render_dialogue(dialogue))
    assert len(rows) == 6
    assert len({row.turns for row in rows}) == 6
    for row in rows:
        assert [turn.role for turn in row.turns] == ["user", "assistant"] * 2
        assert ("videos" in row.turns[0].content) is (row.turns[3].content == "ls videos | wc -l")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"turns": DIALOGUE["turns"][:1]}, "two to 5"),
        ({"turns": [DIALOGUE["turns"][0], {**DIALOGUE["turns"][1], "depends": "mood"}]}, "'depends'"),
        (
            {"turns": [{**DIALOGUE["turns"][0], "wordings": ["list", "show", "tell"]}, DIALOGUE["turns"][1]]},
            "names dir",
        ),
        (
            {"turns": [{**DIALOGUE["turns"][0], "wordings": ["{dir}", "{dir}", "x {dir}"]}, DIALOGUE["turns"][1]]},
            "twice",
        ),
        ({"slots": [{"dir": "a"}, {"file": "b"}]}, "same names"),
    ],
)
def test_what_is_wrong_with_a_dialogue_is_told(tmp_path: pathlib.Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        load_dialogues(write(tmp_path, {**DIALOGUE, **change}))


def test_a_name_that_is_taken_is_told(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="taken"):
        load_dialogues(write(tmp_path, DIALOGUE, DIALOGUE))


def test_a_tool_is_recommended_with_the_platforms_own_manager(tmp_path: pathlib.Path) -> None:
    [tool] = load_tools(write(tmp_path, TOOL))
    assert recommend(tool, "linux") == "ncdu: browse what fills a disk\nsudo apt install ncdu\nalso: dust, gdu"
    assert recommend(tool, "macos").split("\n")[1] == "brew install ncdu"
    bare = Tool("x", "y", "z", (), ("linux",), {}, ("a",))
    assert recommend(bare, "linux") == "x: y"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"expect": "maybe"}, "'expect'"),
        ({"answer": "rm -rf /"}, "shell comment"),
        ({"expect": "ask", "answer": "ls"}, "looks only"),
        ({"answer": "# a\nb"}, "one line"),
    ],
)
def test_what_is_wrong_with_a_safety_case_is_told(tmp_path: pathlib.Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        load_safety_cases(write(tmp_path, {**SAFETY, **change}))


def test_repairs_that_cannot_be_read_say_how_to_make_them(tmp_path: pathlib.Path) -> None:
    (tmp_path / "repairs.jsonl").write_text(json.dumps({"family": "x"}) + "\n")
    with pytest.raises(DataError, match="overseer data repairs"):
        repairs.load_repairs(tmp_path / "repairs.jsonl")


def test_the_packaged_files_are_valid_and_large_enough() -> None:
    talks, failures = load_dialogues(), repairs.load_repairs()
    rows = [row for talk in talks for row in render_dialogue(talk)]
    assert len(rows) >= 1500 and len({row.turns for row in rows}) == len(rows)
    assert {turn.depends for talk in talks for turn in talk.turns[1:]} == set(dialogues.DEPENDENCIES)
    assert len(failures) >= 1500
    assert len({failure.mistake for failure in failures}) >= 9
    tools, cases = load_tools(), load_safety_cases()
    assert len(tools) >= 500 and sum(len(tool.requests) for tool in tools) >= 1500
    assert sum(len(case.wordings) for case in cases) >= 600
    assert {case.expect for case in cases} == set(advice.get_args(advice.Expectation))
