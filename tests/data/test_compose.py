"""Composed requests: what is said is what is put."""

from __future__ import annotations

import random
import re

import pytest

from overseer_training.data.clean import parses
from overseer_training.data.compose import Composition, compose, load_compositions
from overseer_training.data.sources.corpus import Forms, load_families
from overseer_training.errors import DataError

PARTS = {
    "composition": "tiny",
    "command": "find {place}{limits}{type}{tests}{action}",
    "conditions": {1: 1},
    "values": {},
    "nouns": [{"kind": "file", "put": " -type f", "many": "files", "one": "file"}],
    "quantifiers": {"many": {"all": 1}, "one": {"every": 1}},
    "one_share": 0,
    "prepositions": {"in": 1},
    "tails": {"": 1},
    "tail_share": 0,
    "places": [{"put": "{dir}", "shape": "plain", "say": ["{dir}"]}],
    "limits": {"share": 0, "choices": []},
    "conditions_of": [{"group": "name", "choices": [{"put": " -name '*.{ext}'", "after": ["ending in .{ext}"]}]}],
    "actions": [{"say": ["list {all}"], "put": ""}],
}


def test_the_command_has_what_the_request_says() -> None:
    request, command = Composition("tiny", PARTS).draw(random.Random(0))
    said = re.fullmatch(
        r"[Ll]ist all files in (\S+) ending in \.(\w+)\.?|[Ll]ist all files ending in \.(\w+) in (\S+?)\.?", request
    )
    assert said is not None, request
    folder, extension = said[1] or said[4], said[2] or said[3]
    assert command == f"find {folder} -type f -name '*.{extension}'"


def test_contradictions_are_never_drawn() -> None:
    with pytest.raises(DataError, match="leave nothing"):
        Composition("tiny", {**PARTS, "contradictions": ["-name"]}).draw(random.Random(0))


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = (list(compose(200, random.Random(7))) for _ in range(2))
    assert first == second
    assert len({row.query for row in first}) == len(first)


def test_packaged_compositions_give_commands_that_parse_and_leave_no_slot() -> None:
    for row in compose(3000, random.Random(1)):
        assert parses(row.answer), row.answer
        rest = re.sub(r"\$\{[^}]*\}|\{\}", "", row.query + row.answer)
        assert not re.search(r"\{[a-z_]+\d?\}", rest), row
        assert "  " not in row.query and "  " not in row.answer


def test_values_in_the_request_are_those_of_the_command() -> None:
    for row in compose(2000, random.Random(2)):
        for value in re.findall(r"-name '\*\.(\w+)'|-user (\w+)|-newer (\S+)", row.answer):
            assert any(part and part in row.query for part in value), row


def test_held_out_forms_are_left_out() -> None:
    family = next(f for f in load_families() if f.command == "find {dir} -type f -name '*.{ext}'")
    forms = Forms([family])
    assert any(forms.match(row.answer) for row in compose(500, random.Random(3)))
    assert not any(forms.match(row.answer) for row in compose(500, random.Random(3), forms))


def test_macos_gets_nothing_that_only_gnu_tools_do() -> None:
    rows = list(compose(1500, random.Random(4), macos_share=1.0))
    assert {row.platform for row in rows} == {"macos"}
    assert not any("-printf" in row.answer or "-executable" in row.answer for row in rows)


def test_every_file_has_its_parts() -> None:
    assert {composition.name for composition in load_compositions()} >= {"find"}
