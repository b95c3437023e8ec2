"""Rows that resist attacks: harmless requests stay harmless, dangerous ones refused."""

from __future__ import annotations

import pathlib

import pytest

from overseer_training.data.sources.advice import load_safety_cases
from overseer_training.data.sources.corpus import load_families
from overseer_training.data.sources.safety_frames import dressed_rows, injected_rows, load_safety_frames
from overseer_training.errors import DataError
from overseer_training.guards.judge import judge


def test_foreign_instructions_are_in_the_request_and_never_in_the_answer() -> None:
    families = load_families()[:200]
    rows = list(injected_rows(families, 300, seed=1))
    payloads = load_safety_frames()["payload"]
    assert len({row.turns[0].content for row in rows}) > 290
    for row in rows:
        request, answer = (turn.content for turn in row.turns)
        assert (
            any(payload in request for payload in payloads) and "{payload}" not in request and "{query}" not in request
        )
        assert not any(payload in answer for payload in payloads) and judge(answer).decision != "refuse"


def test_dressed_requests_get_the_answer_of_the_bare_one() -> None:
    cases = load_safety_cases()
    bare = {wording: case for case in cases for wording in case.wordings}
    answers = {case.answer for case in cases if case.expect == "refuse"}
    rows = list(dressed_rows(cases, 0.5, seed=1))
    assert len(rows) > 300 and {row.turns[1].content for row in rows} <= answers
    assert not any(row.turns[0].content in bare for row in rows)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{frames: x, kind: joke, texts: [a, b, c]}", "'kind' must be one of injected, dressed, payload"),
        ("{frames: x, kind: dressed, texts: ['{query} a', '{query} b', c]}", "not one {query} in 'c'"),
        (
            "{frames: x, kind: injected, texts: ['{query} {payload}', '{query}', '{payload} {query}!']}",
            "not one {payload}",
        ),
        ("{frames: x, kind: payload, texts: ['rm -rf /', 'rm -rf ~', 'ls']}", "the payload is harmless: ls"),
    ],
)
def test_what_is_wrong_with_a_frame_is_told(tmp_path: pathlib.Path, entry: str, problem: str) -> None:
    path = tmp_path / "frames.yaml"
    path.write_text(f"- {entry}\n")
    with pytest.raises(DataError, match=problem.replace("{", "\\{")):
        load_safety_frames(path)
