from __future__ import annotations

import random
import re

import pytest

from overseer_training.data.sources.corpus import Family
from overseer_training.evaluation.mistakes import MISTAKES, make_repairs
from overseer_training.evaluation.sandbox import find_sandbox


@pytest.mark.parametrize(
    ("mistake", "command", "allowed"),
    [
        ("space missing", "ls -la docs", {"ls-la docs"}),
        ("quote missing", "grep 'a b' notes", {"grep 'a b notes"}),
        ("one dash for two", "sort --reverse a", {"sort -reverse a"}),
        ("end missing", "for f in *; do echo $f; done", {"for f in *; do echo $f"}),
        ("space in test missing", "[ -f a ] && cat a", {"[ -f a] && cat a"}),
        ("option missing", "cp -r docs copy", {"cp docs copy"}),
        ("program in capitals", "sed p a", {"SED p a", "Sed p a"}),
        ("unknown letter", "df -h", {"df -hQ", "df -hY", "df -hJ"}),
    ],
)
def test_mistakes_are_those_that_people_make(mistake: str, command: str, allowed: set[str]) -> None:
    assert MISTAKES[mistake](command, random.Random(0)) in allowed


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_that_does_not_fit_is_none(mistake: str) -> None:
    assert MISTAKES[mistake](":", random.Random(0)) is None


def test_a_repair_carries_what_the_shell_really_said() -> None:
    family = Family("count", "wc", "home", "wc -l {file}", ("a", "b", "c", "d"), "x", slots=({"file": "notes.txt"},))
    changing = Family("make", "mkdir", "home", "mkdir -p new; ls", ("a", "b", "c", "d"), "x")
    found = list(make_repairs([family, changing], {"home": ("echo hi >notes.txt\n", "")}, find_sandbox(), each=9))
    assert {repair.command for repair in found if repair.family == "count"} == {"wc -l notes.txt"}
    misspelt = next(repair for repair in found if repair.mistake == "path misspelt" and repair.family == "count")
    assert "No such file or directory" in misspelt.stderr and misspelt.exit_code == 1
    glued = next(repair for repair in found if repair.mistake == "space missing" and repair.family == "count")
    assert glued.stderr == "bash: wc-l: command not found" and glued.exit_code == 127
    assert not any(repair.mistake == "option missing" and repair.family == "make" for repair in found)
    assert all("/run/" not in repair.stderr for repair in found)


def test_capitals_are_tried_only_where_nothing_else_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family("order", "sort", "home", "sort {file}", ("a", "b", "c", "d"), "x", slots=({"file": "notes.txt"},))
    home, capitals = {"home": ("echo hi >notes.txt\n", "")}, "program in capitals"
    found = [repair.mistake for repair in make_repairs([family], home, find_sandbox(), each=9)]
    assert found and capitals not in found
    monkeypatch.setattr("overseer_training.evaluation.mistakes.MISTAKES", {capitals: MISTAKES[capitals]})
    assert [repair.mistake for repair in make_repairs([family], home, find_sandbox(), each=9)] == [capitals]


def test_sudo_says_what_sudo_says() -> None:
    family = Family("web", "systemctl", "home", "sudo systemctl restart nginx", ("a", "b", "c", "d"), "x")
    found = list(make_repairs([family], {"home": ("echo hi >notes.txt\n", "")}, find_sandbox(), each=9))
    misspelt = next(repair for repair in found if repair.failed.startswith("sudo ") and "not found" in repair.stderr)
    assert re.fullmatch(r"sudo: \S+: command not found", misspelt.stderr) and misspelt.exit_code == 1
