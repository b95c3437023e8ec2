"""A run keeps what passes, counts everything once, and loses nothing that was paid for, whatever dies."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from loopback.teachers import FakeServer

from overseer_training.errors import DataError, SandboxError
from overseer_training.records import Example, Turn
from overseer_training.teachers.ask import Budget, Patience
from overseer_training.teachers.protocol import Teacher, TeacherError
from overseer_training.teachers.rows import read_rows
from overseer_training.teachers.taught import Taught, teach
from overseer_training.teachers.write import Assignment, Proposal, answer, explanation, pairs, paraphrases

from .conftest import KINDS

QUICK = Patience(pause_seconds=0.001)


def requests_of(number: int) -> list[Assignment]:
    return [answer(f"a{index}", f"family-{index}", f"print the number {index}") for index in range(number)]


def print_number(text: str) -> str:
    return json.dumps({"command": f"echo {text.rpartition(' ')[2]}"})


@pytest.fixture
def run(server: FakeServer, teacher_of: Callable[[str], Teacher], tmp_path: pathlib.Path) -> Callable[..., Taught]:
    server.answer = print_number
    teacher = teacher_of("openai")

    def call(assignments: list[Assignment], **changes: Any) -> Taught:
        rules: dict[str, Any] = {
            "check": lambda proposal: None,
            "is_held_out": lambda text: False,
            "budget": Budget(),
            "patience": QUICK,
        }
        taught = teach(teacher, assignments, tmp_path / "run", **{**rules, **changes})
        assert taught.is_balanced()
        return taught

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_their_provenance_and_come_back_from_the_file(
    kind: str, server: FakeServer, teacher_of: Callable[[str], Teacher], tmp_path: pathlib.Path
) -> None:
    server.answer = print_number
    teacher = teacher_of(kind)
    taught = teach(
        teacher, requests_of(2), tmp_path,
        check=lambda proposal: None, is_held_out=lambda text: False, budget=Budget(),
    )  # fmt: skip
    assert read_rows(tmp_path / "rows.jsonl") == taught.rows
    example, provenance = taught.rows[1].example, taught.rows[1].provenance
    assert (example.family, example.query, example.answer) == ("family-1", "print the number 1", "echo 1")
    assert (example.skill, example.source) == ("command", "teacher")
    assert provenance.teachers == (f"{teacher.name}: {teacher.model}",) and server.address in provenance.teachers[0]
    assert provenance.assignment == "a1" and provenance.time.endswith("+00:00") and provenance.prompt_version


def test_what_goes_is_counted_once_with_its_reason(run: Callable[..., Taught], server: FakeServer) -> None:
    commands = ["echo 1", "echo 1", "cat nothere", "curl -u bob:hunter22xx https://x.org", "ls\nls", "echo 2"]
    document = {"pairs": [{"request": f"do {command[:6]}", "command": command} for command in commands]}
    server.answer = lambda text: json.dumps(document)
    known = Example("k", "f", "command", (Turn("user", "Do  echo 2"), Turn("assistant", "echo 2")), "linux", "corpus")
    taught = run(
        [pairs("p", "f", "echo", "page", 6)],
        check=lambda proposal: "exit code 1" if "nothere" in proposal.commands[0] else None,
        is_held_out=lambda text: text == "do ls\nls",
        known=[known],
    )
    assert [row.example.answer for row in taught.rows] == ["echo 1"]
    assert dict(taught.set_aside) == {
        "taught/p/1": "repeated",
        "taught/p/2": "exit code 1",
        "taught/p/3": "holds a secret (password option)",
        "taught/p/4": "is empty, too long or not one line",
        "taught/p/5": "repeated",
    }
    counts = taught.counts()
    assert [
        counts[name] for name in ("proposed", "kept", "repeated", "refused_by_check", "secret", "refused_by_reading")
    ] == [6, 1, 2, 1, 1, 1]


def test_held_out_requests_are_refused_before_anything_is_run(run: Callable[..., Taught]) -> None:
    looked_at: list[Proposal] = []
    taught = run(
        requests_of(1), is_held_out=lambda text: text == "print the number 0", check=lambda p: looked_at.append(p)
    )
    assert (taught.rows, looked_at, taught.proposals.held_out) == ([], [], 1)


def test_known_commands_are_not_checked_again(run: Callable[..., Taught], server: FakeServer) -> None:
    answers = iter(['{"wordings": ["echo 5 now", "Print 5"]}', '{"explanation": "Prints 5."}'])
    server.answer = lambda text: next(answers)
    work = [paraphrases("p", "f", "print 5", "echo 5", 2), explanation("e", "f", "print 5", "echo 5")]
    taught = run(work, check=lambda proposal: "must not be asked")
    assert [row.example.turns[-1].content for row in taught.rows] == ["echo 5", "Prints 5."]
    assert taught.set_aside == [("taught/p/1", "repeats the request that it was to reword")]


def test_a_secret_is_sent_to_nobody(run: Callable[..., Taught], server: FakeServer) -> None:
    taught = run([answer("s", "f", "log in with password=hunter22xx"), *requests_of(1)])
    assert "hunter22" not in json.dumps(server.chats) and len(server.chats) == 1
    assert taught.assignments.set_aside == 1 and "was not sent" in taught.set_aside[0][1]


def test_failures_that_pass_are_tried_again(run: Callable[..., Taught], server: FakeServer) -> None:
    server.faults = [429, 500, "malformed", "cut"]
    taught = run(requests_of(2))
    assert len(taught.rows) == 2 and taught.stopped is None
    assert (taught.requests.asked, taught.requests.failed, taught.requests.answered) == (6, 4, 2)


def test_malformed_answers_are_asked_for_again_with_another_seed_then_set_aside(
    run: Callable[..., Taught], server: FakeServer
) -> None:
    server.answer = lambda text: "Sure! ls" if text.endswith("0") else print_number(text)
    taught = run(requests_of(2))
    assert [chat["seed"] for chat in server.chats] == [0, 1, 2, 0]
    assert (taught.requests.malformed, taught.assignments.set_aside, len(taught.rows)) == (3, 1, 1)
    assert taught.set_aside[0][0] == "a0" and "malformed 3 times: Invalid JSON" in taught.set_aside[0][1]
    again = run(requests_of(2))
    assert len(server.chats) == 4 and again.rows == taught.rows  # nor are malformed answers paid for twice


def test_a_request_that_is_refused_does_not_end_the_run(run: Callable[..., Taught], server: FakeServer) -> None:
    server.faults = [413]
    taught = run(requests_of(2))
    assert (taught.assignments.set_aside, taught.assignments.done, taught.stopped) == (1, 1, None)


def test_a_teacher_that_dies_half_way_costs_nothing_that_was_earned(
    run: Callable[..., Taught], server: FakeServer
) -> None:
    server.answer = lambda text: (server.faults.append("dead") if text.endswith("2") else None) or print_number(text)
    first = run(requests_of(5))
    assert len(first.rows) == 3 and first.assignments.not_reached == 2
    assert first.requests.failed == QUICK.failures  # it is not asked again for each assignment
    assert first.stopped is not None and "broke off" in first.stopped
    server.faults, server.answer, server.chats = [], print_number, []
    second = run(requests_of(5))
    assert len(server.chats) == 2 and second.requests.from_ledger == 3
    assert second.rows[:3] == first.rows and len(second.rows) == 5 and second.stopped is None


def test_a_teacher_that_never_answers_is_an_error(run: Callable[..., Taught], server: FakeServer) -> None:
    server.faults = ["dead"]
    with pytest.raises(TeacherError, match="broke off"):
        run(requests_of(3))


@pytest.mark.parametrize(
    ("budget", "answered"),
    [(Budget(requests=3), 3), (Budget(tokens=25), 3), (Budget(requests=0), 0), (Budget(seconds=0.0), 0)],
)
def test_a_budget_ends_a_run_and_the_next_one_goes_on(
    budget: Budget, answered: int, run: Callable[..., Taught], server: FakeServer
) -> None:
    if answered:
        taught = run(requests_of(5), budget=budget)
        assert (len(taught.rows), taught.assignments.not_reached) == (answered, 5 - answered)
        assert "is spent" in (taught.stopped or "")
    else:
        with pytest.raises(TeacherError, match="is spent"):
            run(requests_of(5), budget=budget)
    assert len(server.chats) == answered
    assert len(run(requests_of(5)).rows) == 5 and len(server.chats) == 5
    assert len(run(requests_of(5), budget=Budget(requests=0)).rows) == 5  # the ledger is free


def test_another_question_is_another_answer(run: Callable[..., Taught], server: FakeServer) -> None:
    run(requests_of(1))
    run(requests_of(1), seed=7)
    run([answer("a0", "f", "print the number 0", "macos")])
    assert len(server.chats) == 3


def test_checks_are_made_again_in_every_run(run: Callable[..., Taught], server: FakeServer) -> None:
    assert len(run(requests_of(2)).rows) == 2
    assert run(requests_of(2), check=lambda proposal: "no sandbox").rows == []
    assert len(server.chats) == 2


def test_a_check_that_cannot_check_ends_the_run_and_keeps_the_answers(
    run: Callable[..., Taught], server: FakeServer
) -> None:
    def check(proposal: Proposal) -> str | None:
        raise SandboxError("no sandbox here")

    with pytest.raises(SandboxError):
        run(requests_of(2), check=check)
    assert len(run(requests_of(2)).rows) == 2 and len(server.chats) == 2


def test_the_folder_says_what_happened(run: Callable[..., Taught], tmp_path: pathlib.Path) -> None:
    taught = run(requests_of(2), budget=Budget(requests=1))
    counts = json.loads((tmp_path / "run" / "counts.json").read_text())
    assert counts["kept"] == 1 and counts["not_reached"] == 1 and counts["stopped"] == taught.stopped
    (tmp_path / "run" / "rows.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(DataError, match="no readable rows"):
        read_rows(tmp_path / "run" / "rows.jsonl")


RUN = """
import pathlib, sys, json
from overseer_training.teachers.ask import Budget
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher
from overseer_training.teachers.taught import teach
from overseer_training.teachers.write import answer
work = [answer(f"a{n}", f"family-{n}", f"print the number {n}") for n in range(8)]
teach(OpenAICompatibleTeacher(sys.argv[1]), work, pathlib.Path(sys.argv[2]),
      check=lambda proposal: None, is_held_out=lambda text: False, budget=Budget())
"""


def test_a_run_that_is_killed_loses_at_most_the_answer_on_its_way(
    run: Callable[..., Taught], server: FakeServer, tmp_path: pathlib.Path
) -> None:
    def slowly(text: str) -> str:
        time.sleep(0.1)
        return print_number(text)

    server.answer = slowly
    process = subprocess.Popen([sys.executable, "-c", RUN, server.address, str(tmp_path / "run")])
    while len(server.chats) < 4 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "rows.jsonl").exists()
    server.answer = print_number
    taught = run(requests_of(8))
    assert len(taught.rows) == 8 and taught.requests.from_ledger >= 3
    assert len(server.chats) <= 9
