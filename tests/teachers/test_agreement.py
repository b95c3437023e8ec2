"""Several teachers and the student: the effect of most decides, and effects are those of commands that ran."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest
from loopback import running
from loopback.teachers import FakeServer

from overseer_training.teachers.agreement import STUDENT, Candidate, agree, teach_by_agreement
from overseer_training.teachers.ask import Budget, Patience
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher
from overseer_training.teachers.protocol import TeacherError
from overseer_training.teachers.taught import Taught
from overseer_training.teachers.write import Assignment, answer

COUNT, COUNT_LONGER, COUNT_OTHERWISE = "wc -l < notes", "cat notes | wc -l", "grep -c '' notes"
SHOW, SHOW_LONGER = "cat notes", "cat < notes"
FAILS, SILENT = "wc -l < nothing", "true"


@pytest.fixture
def effect_of(tmp_path: pathlib.Path) -> Callable[[str], str | None]:
    """What a command prints in a folder with one file; these commands are the test's own and harmless."""
    (tmp_path / "notes").write_text("one\ntwo\nthree\n")

    def run(command: str) -> str | None:
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 and done.stdout else None

    return run


@pytest.mark.parametrize(
    ("proposals", "command", "authors"),
    [
        ({"a": [COUNT_LONGER], "b": [COUNT_OTHERWISE], "c": [SHOW]}, COUNT_LONGER, ("a", "b")),
        ({"a": [COUNT], "b": [COUNT]}, COUNT, ("a", "b")),
        ({"a": [COUNT]}, None, ()),
        ({"a": [COUNT], "b": [SHOW]}, None, ()),
        ({"a": [COUNT], "b": [COUNT_LONGER], "c": [SHOW], "d": [SHOW_LONGER]}, None, ()),
        ({"a": [COUNT], "b": [COUNT_LONGER], "c": [SHOW], "d": [FAILS]}, None, ()),
        ({"a": [COUNT], "b": [COUNT_LONGER], "c": [FAILS]}, COUNT_LONGER, ("a", "b")),
        ({"a": [FAILS], "b": [FAILS]}, None, ()),
        ({"a": [SILENT], "b": [SILENT]}, None, ()),
        ({"a": [COUNT, COUNT_LONGER, COUNT_OTHERWISE], "b": [SHOW]}, None, ()),
        ({"a": [COUNT, SHOW], "b": [COUNT], "c": [COUNT]}, COUNT, ("b", "c")),
        ({"a": [COUNT, COUNT_LONGER, SHOW], "b": [COUNT], "c": [SHOW]}, COUNT, ("a", "b")),
        ({}, None, ()),
    ],
)
def test_the_effect_of_most_authors_decides(
    proposals: dict[str, list[str]], command: str | None, authors: tuple[str, ...],
    effect_of: Callable[[str], str | None],
) -> None:  # fmt: skip
    candidates = [Candidate(author, proposed) for author, commands in proposals.items() for proposed in commands]
    agreement = agree(candidates, effect_of)
    assert (agreement.command, agreement.authors, agreement.n) == (command, authors, len(proposals))
    assert bool(agreement.reason) is (command is None)


def test_of_one_effect_the_command_of_most_authors_is_taught(effect_of: Callable[[str], str | None]) -> None:
    """The file has fewer lines than were asked for, so `cat` does the same; being the shortest, it was taught."""
    asked = "head -n 20 notes"
    votes = [Candidate("a", SHOW), Candidate("b", asked), Candidate("c", asked)]
    agreement = agree(votes, effect_of)
    assert (agreement.command, agreement.authors) == (asked, ("a", "b", "c"))
    assert agree([*votes, votes[0], votes[0]], effect_of).command == asked, "one author repeated itself"


def test_of_commands_that_equally_many_gave_the_reference_is_taught_else_the_longest(
    effect_of: Callable[[str], str | None],
) -> None:
    votes = [Candidate("a", COUNT), Candidate("b", COUNT_LONGER), Candidate("c", COUNT_OTHERWISE)]
    assert agree(votes, effect_of).command == COUNT_LONGER
    assert agree(votes, effect_of, COUNT).command == COUNT
    assert agree([*votes, Candidate("d", COUNT_OTHERWISE)], effect_of, COUNT).command == COUNT_OTHERWISE


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(FakeServer(model_bytes={"gemma-test": 500_000_000}))) for _ in range(3)]


def test_teachers_and_student_make_rows_that_most_of_them_mean(
    servers: list[FakeServer], effect_of: Callable[[str], str | None], tmp_path: pathlib.Path
) -> None:
    says = {
        "count the lines of notes": (COUNT_LONGER, COUNT_OTHERWISE, FAILS),
        "show notes": (SHOW, COUNT, FAILS),
        "how long is notes": (COUNT, SHOW, FAILS),
    }
    for number, server in enumerate(servers):
        server.answer = lambda text, number=number: json.dumps(
            {"command": says[text.partition("Request: ")[2]][number]}
        )  # type: ignore[misc]
    teachers = [OpenAICompatibleTeacher(server.address) for server in servers]
    work = [answer(f"a{number}", "f", request, reference=COUNT) for number, request in enumerate(says)]
    student = {"a0": [COUNT], "a1": [COUNT_LONGER], "a2": [COUNT_LONGER]}

    def effect(assignment: Assignment, command: str) -> str | None:
        return effect_of(command)

    def run(folder: str, notes: list[str], patience: Patience) -> list[tuple[str, str]]:
        taught = teach_by_agreement(
            teachers, work, tmp_path / folder, effect_of=effect, is_held_out=lambda text: False,
            budget=Budget(), student_commands=student, patience=patience, notify=notes.append,
        )  # fmt: skip
        assert taught.is_balanced()
        for row in taught.rows:
            assert STUDENT in row.provenance.teachers and len(row.provenance.teachers) >= 2
        return [(row.example.query, row.example.answer) for row in taught.rows]

    notes: list[str] = []
    assert run("all", notes, Patience()) == [("count the lines of notes", COUNT)]
    assert notes == []
    servers[2].faults = ["dead"]
    without_third = run("two", notes, Patience(failures=2, pause_seconds=0))
    assert without_third == [(request, COUNT) for request in says]
    assert len(notes) == 1 and servers[2].address in notes[0]
    for server in servers:
        server.faults = ["dead"]
    with pytest.raises(TeacherError, match="broke off"):
        run("none", notes, Patience(failures=1, pause_seconds=0))


def test_a_budget_leaves_no_vote_of_some(servers: list[FakeServer], tmp_path: pathlib.Path) -> None:
    for server in servers:
        server.answer = lambda text: '{"command": "ls"}'
    teachers = [OpenAICompatibleTeacher(server.address) for server in servers]
    work = [answer("a0", "f", "list"), answer("a1", "f", "list all")]

    def run(budget: Budget) -> Taught:
        return teach_by_agreement(
            teachers,
            work,
            tmp_path,
            effect_of=lambda assignment, command: command,
            is_held_out=lambda text: False,
            budget=budget,
        )

    first = run(Budget(requests=5))
    assert (len(first.rows), first.assignments.not_reached) == (1, 1)
    assert [len(row.provenance.teachers) for row in run(Budget(requests=1)).rows] == [3, 3]


def test_what_all_agree_on_is_checked_once_more(servers: list[FakeServer], tmp_path: pathlib.Path) -> None:
    for server in servers:
        server.answer = lambda text: '{"command": "ls"}'
    taught = teach_by_agreement(
        [OpenAICompatibleTeacher(server.address) for server in servers],
        [answer("a0", "f", "list")],
        tmp_path,
        effect_of=lambda assignment, command: command,
        check=lambda proposal: f"{proposal.commands[0]} is wrong",
        is_held_out=lambda text: False,
        budget=Budget(),
    )
    assert (taught.rows, taught.set_aside, taught.proposals.refused_by_check) == (
        [],
        [("taught/a0/0", "ls is wrong")],
        1,
    )
