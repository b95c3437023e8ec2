"""What is learned from interactions: only what worked or was liked, safe, and without secrets; held out by time."""

from __future__ import annotations

import dataclasses

import pytest

from overseer_training.data.sources.corpus import Family
from overseer_training.errors import DataError, NotAvailableError
from overseer_training.learning.curate import curate, habit_rows, mix, replay, same_command, score_personal
from overseer_training.learning.interaction import Interaction
from overseer_training.learning.owners import OWNERS, Owner, simulate
from overseer_training.prompts import REPAIR_REQUEST
from overseer_training.records import Example, Turn


def asked(request: str, proposal: str = "ls", time: float = 0.0, feedback: int = 0) -> Interaction:
    return Interaction(time, "ask", request, proposal, session="s", feedback=feedback)


def ran(command: str, time: float = 10.0, exit_code: int = 0, session: str = "s") -> Interaction:
    return Interaction(time, "shell", command=command, exit_code=exit_code, session=session)


def rows_of(*interactions: Interaction) -> list[tuple[str, str, str]]:
    personal = curate(interactions, "on")
    return [(row.skill, row.query, row.answer) for row in (*personal.train, *personal.held_out)]


def test_a_proposal_that_was_run_and_worked_is_learned() -> None:
    assert rows_of(asked("list files", "ls -l"), ran("ls -l")) == [("command", "list files", "ls -l")]


def test_what_the_owner_ran_instead_is_learned() -> None:
    personal = curate([asked("find TODO in src", "grep -rn TODO src"), ran("rg -n TODO src")], "on")
    assert [row.answer for row in personal.train] == ["rg -n TODO src"]
    assert personal.preferences == {("grep", "rg"): 1}


@pytest.mark.parametrize(
    ("interactions", "reason"),
    [
        ([asked("list files", "ls -l")], "neither run nor liked"),
        ([asked("list files", "ls -l"), ran("ls -l", exit_code=2)], "failed"),
        ([asked("list files", "ls -l", feedback=-1)], "disliked"),
        ([asked("list files", "ls -l"), ran("uptime")], "neither run nor liked"),
        ([asked("list files", "ls -l"), ran("ls -l", time=5000)], "neither run nor liked"),
        ([asked("list files", "ls -l"), ran("ls -l", session="other")], "neither run nor liked"),
        ([asked("open files", "vim files"), ran("cd files")], "neither run nor liked"),
        ([asked("wipe it", "rm -rf /", feedback=1)], "not judged safe"),
        ([asked("broken", "echo 'a", feedback=1)], "does not parse as one line of bash"),
        ([asked("log in", "mysql -u root -pREDACTED", feedback=1)], "held a secret"),
        ([asked("log in", "mysql -u root -phunter2secrets9", feedback=1)], "held a secret"),
        ([asked("say", "", feedback=1)], "no command"),
    ],
)  # fmt: skip
def test_what_is_not_learned_has_its_reason(interactions: list[Interaction], reason: str) -> None:
    personal = curate(interactions, "on")
    assert (personal.train, personal.held_out) == ((), ())
    assert personal.set_aside == {reason: 1}


def test_a_liked_answer_is_learned_without_being_run() -> None:
    assert rows_of(asked("list files", "ls -l", feedback=1)) == [("command", "list files", "ls -l")]


def test_a_failure_and_what_mended_it_are_a_repair() -> None:
    request = REPAIR_REQUEST.format(command="gti status", stderr="", exit_code=127)
    assert rows_of(ran("gti status", 1, 127), ran("ls", 2), ran("git status", 30)) == [
        ("repair", request, "git status")
    ]


@pytest.mark.parametrize(
    "session",
    [
        [ran("gti status", 1, 127), ran("git status", 400)],  # too late
        [ran("gti status", 1, 127), ran("uptime", 2)],  # something else
        [ran("make", 1, 2), ran("make", 20)],  # mended elsewhere
        [ran("grep a b", 1, 1), ran("grep a c", 2)],  # found nothing
        [ran("sleep 100", 1, 130), ran("sleep 10", 2)],  # stopped by its owner
        [ran("gti status", 1, 127), ran("git status", 2, session="other")],
    ],
)
def test_what_is_no_repair(session: list[Interaction]) -> None:
    assert rows_of(*session) == []


def test_the_command_that_is_run_most_often_wins() -> None:
    found = rows_of(
        asked("disk use", "du -sh a", 0), ran("du -sh a", 1),
        asked("Disk  use", "du -sh a", 1000), ran("du -h -d 1 a", 1001),
        asked("disk use", "du -sh a", 2000), ran("du -h -d 1 a", 2001),
    )  # fmt: skip
    assert [command for _, _, command in found] == ["du -h -d 1 a"]


def test_the_newest_fifth_is_held_out_and_shares_no_request() -> None:
    times = [n * 1000.0 for n in range(100)]
    interactions = [
        i for n, t in enumerate(times) for i in (asked(f"show file{n % 70}", "cat", t), ran(f"cat file{n % 70}", t + 1))
    ]
    personal = curate(interactions, "on")
    assert (len(personal.train), len(personal.held_out)) == (56, 14)
    assert not {row.query for row in personal.train} & {row.query for row in personal.held_out}
    assert {row.query for row in personal.held_out} == {f"show file{n % 70}" for n in range(86, 100)}


@pytest.mark.parametrize("state", ["off", "paused", "unasked"])
def test_nothing_is_learned_without_consent(state: str) -> None:
    with pytest.raises(NotAvailableError, match="overseer learn resume"):
        curate([asked("list files", "ls -l", feedback=1)], state)  # type: ignore[arg-type]


def row(identity: str) -> Example:
    return Example(identity, identity, "command", (Turn("user", identity), Turn("assistant", "ls")), "linux", "corpus")


def test_personal_rows_have_the_stated_share_and_the_corpus_is_all_there() -> None:
    personal, corpus = [row(f"p{n}") for n in range(10)], [row(f"c{n}") for n in range(450)]
    mixed = list(mix(personal, corpus, 0.1, seed=1))
    assert len(mixed) == 500 and set(corpus) <= set(mixed)
    assert all(mixed.count(one) == 5 for one in personal)
    assert mixed == list(mix(personal, corpus, 0.1, seed=1)) != list(mix(personal, corpus, 0.1, seed=2))
    assert len(list(mix(personal, corpus, 0.0001, seed=1))) == 460  # each at least once
    with pytest.raises(DataError, match="nothing to learn from yet"):
        mix([], corpus, 0.1, seed=1)


def test_a_model_that_learns_on_sees_its_own_rows_once_and_a_share_of_the_corpus() -> None:
    personal, corpus = [row(f"p{n}") for n in range(10)], [row(f"c{n}") for n in range(450)]
    rows = replay(personal, corpus, 0.75, seed=1)
    assert len(rows) == len(set(rows)) == 40 and set(personal) <= set(rows) <= {*personal, *corpus}
    assert rows == replay(personal, corpus, 0.75, seed=1) != replay(personal, corpus, 0.75, seed=2)
    assert sorted(replay(personal, corpus, 0, seed=1), key=personal.index) == personal
    assert len(replay(personal, corpus[:5], 0.9, seed=1)) == 15  # no more than there is
    with pytest.raises(DataError, match="nothing to learn from yet"):
        replay([], corpus, 0.5, seed=1)
    safety = [dataclasses.replace(row(f"s{n}"), skill="safety") for n in range(4)]
    drawn = replay(personal, [*corpus[:400], *safety], 0.75, seed=1)  # roots of 400 and 4: ten to one
    assert sum(one.skill == "safety" for one in drawn) == 3


def test_commands_typed_often_get_the_words_of_their_family() -> None:
    restart = Family(
        "restart", "systemctl", "media", "systemctl status {service}", ("is {service} up",) * 4, "why", slots=({"service": "nginx"},)
    )  # fmt: skip
    rows = habit_rows([ran("systemctl status my-app", n) for n in range(3)] + [ran("systemctl status rare")], [restart])
    assert {(found.query, found.answer) for found in rows} == {("is my-app up", "systemctl status my-app")}


def test_quotes_and_blanks_make_no_other_command() -> None:
    assert same_command('rg -n "a b" src', "rg  -n 'a b' src")
    assert not same_command("rg -n a src", "rg -n a")
    assert not same_command("ls > a", "ls > b")
    assert not same_command("ls | wc", "ls; wc")
    assert not same_command("ls && pwd", "ls; pwd")
    held_out = [row("a"), row("b")]
    assert score_personal(held_out, ["ls", "pwd"]).value == 0.5


@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_every_owner_gives_rows_of_their_own_commands(owner: Owner) -> None:
    interactions = list(simulate(owner, 200, seed=3))
    assert interactions == list(simulate(owner, 200, seed=3)) != list(simulate(owner, 200, seed=4))
    personal = curate(interactions, "on")
    rows = [*personal.train, *personal.held_out]
    typed = {i.command for i in interactions if i.source == "shell" and i.exit_code == 0}
    assert {found.answer for found in rows} <= typed
    assert len([found for found in rows if found.skill == "command"]) >= 100
    assert any(found.skill == "repair" for found in rows)
    assert len(personal.held_out) >= 20
