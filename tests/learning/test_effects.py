"""What made the machine better: found where a command is the likely reason, and not where something else is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from overseer_training.learning.curate import curate, objection
from overseer_training.learning.effects import Improvement, find_improvements
from overseer_training.learning.histories import simulate_history
from overseer_training.learning.interaction import Interaction
from overseer_training.learning.looking import only_looks
from overseer_training.learning.remedies import WORDINGS, why_not_again
from overseer_training.telemetry.store import METRICS
from overseer_training.telemetry.stored import Stored

START, HOUR = 1_767_225_600.0, 3600.0
MOMENT = START + 6 * HOUR  # when the command runs
VACUUM = "sudo journalctl --vacuum-size=200M"


def machine(
    before: float, after: float, metric: str = "disk_percent", at: float = MOMENT + 20, lasts: float = 1e9, step: int = 10,
    resolution: str = "full", rises_at: float = MOMENT - 2 * HOUR, usual: float | None = None,
) -> Stored:  # fmt: skip
    """Eight hours: `usual`, from `rises_at` on `before`, for as long as it lasts from `at` on `after`."""
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for time in np.arange(START, START + 8 * HOUR, step):
        value = after if at <= time <= at + lasts else before
        if time < rises_at:
            value = before if usual is None else usual
        row = {**dict.fromkeys(METRICS), "time": time, "resolution": resolution, metric: value + rng.normal(0, 0.02)}
        rows.append(row)
    return Stored.from_rows(rows)


def ran(command: str, time: float = MOMENT, exit_code: int = 0, session: str = "s") -> Interaction:
    return Interaction(time, "shell", command=command, exit_code=exit_code, session=session)


def found(stored: Stored, *interactions: Interaction) -> list[str]:
    return [one.command for one in find_improvements(interactions, stored)]


def test_a_clear_fall_that_lasts_is_an_improvement() -> None:
    (one,) = find_improvements([ran(VACUUM)], machine(91, 84))
    assert (one.time, one.metric, one.command) == (MOMENT, "disk_percent", VACUUM)
    assert (one.before, one.after) == pytest.approx((91, 84), abs=0.1)


def test_five_minute_means_show_it_too() -> None:
    assert found(machine(91, 84, step=300, resolution="mean"), ran(VACUUM)) == [VACUUM]


@pytest.mark.parametrize(
    "stored",
    [
        machine(91, 91),  # nothing fell
        machine(91, 90.9),  # no clear fall
        machine(91, 84, at=MOMENT - 300),  # it fell before
        machine(91, 84, at=MOMENT + 360),  # it fell later than an effect shows
        machine(91, 84, lasts=1000),  # it did not stay
        machine(60, 55),  # it was no trouble: neither high nor rising
        machine(60, 93),  # worse
    ],
    ids=["steady", "small", "before", "late", "passing", "fine", "worse"],
)
def test_what_is_no_improvement(stored: Stored) -> None:
    assert found(stored, ran(VACUUM)) == []


def test_rising_is_trouble_below_the_limit_too() -> None:
    stored = machine(70, 62, usual=60, rises_at=MOMENT - 0.5 * HOUR)
    assert found(stored, ran(VACUUM)) == [VACUUM]


def test_a_machine_that_falls_by_itself_all_the_time_needs_a_larger_fall() -> None:
    rows = []
    for time in np.arange(
        0, 8 * HOUR, 10
    ):  # an hourly job, every other time a larger one; it ends just after the command
        load = (9 if time % (2 * HOUR) >= HOUR else 6) if time % HOUR < 900 else 1
        rows.append({**dict.fromkeys(METRICS), "time": START + time, "resolution": "full", "load_1m": load})
    assert found(Stored.from_rows(rows), ran("pkill ffmpeg", MOMENT + 850)) == []


@pytest.mark.parametrize(
    "other",
    [
        [ran("python3 clean.py", MOMENT + 5)],  # before the fall: which of both?
        [ran("python3 clean.py", MOMENT + 5, exit_code=1)],
        [ran("python3 clean.py", MOMENT + 5, session="other")],
    ],
    ids=["next", "failed", "session"],
)
def test_what_else_ran_before_the_fall_may_be_the_reason(other: list[Interaction]) -> None:
    assert VACUUM not in found(machine(91, 84), ran(VACUUM), *other)


def test_looking_is_no_reason_and_what_ran_after_the_fall_neither() -> None:
    around = [ran("df -h", MOMENT + 5), ran("du -sh /var/log", MOMENT - 30), ran("git pull", MOMENT + 200)]
    assert found(machine(91, 84), ran(VACUUM), *around) == [VACUUM]
    assert found(machine(91, 84, step=300, resolution="mean"), ran(VACUUM), *around) == []  # means cannot tell apart


def test_a_failed_command_made_nothing_better() -> None:
    assert found(machine(91, 84), ran(VACUUM, exit_code=1)) == []


def test_memory_that_the_command_before_took_is_its_own_to_give_back() -> None:
    stored = machine(90, 50, "memory_percent", usual=50, rises_at=MOMENT - HOUR)
    kill = ran("pkill worker")
    assert found(stored, kill) == ["pkill worker"]
    assert found(stored, ran("python3 train.py", MOMENT - HOUR - 60), kill) == []
    assert found(stored, ran("python3 train.py", MOMENT - HOUR + 600), kill) == ["pkill worker"]  # it was high before


def test_a_command_whose_words_do_not_say_so_needs_to_help_twice() -> None:
    once = machine(91, 84)
    assert found(once, ran("~/bin/tidy")) == []
    rows = []
    for time in np.arange(START, START + 12 * HOUR, 10):
        level = 91 - 7 * (time > MOMENT + 20) + 7 * (time > MOMENT + 2 * HOUR) - 7 * (time > MOMENT + 3 * HOUR + 20)
        rows.append({**dict.fromkeys(METRICS), "time": time, "resolution": "full", "disk_percent": level})
    twice = [ran("~/bin/tidy"), ran("~/bin/tidy", MOMENT + 3 * HOUR)]
    assert found(Stored.from_rows(rows), *twice) == ["~/bin/tidy"] * 2
    often = [ran("~/bin/tidy", MOMENT - n * 700) for n in range(1, 12)]  # when the disk was full too
    assert found(Stored.from_rows(rows), *twice, *often) == []


def test_without_telemetry_nothing_is_found() -> None:
    assert find_improvements([ran(VACUUM)], Stored.from_rows([])) == []


@pytest.mark.parametrize("command", ["df -h", "sudo du -xsh /var/* | sort -h", "journalctl -u ssh", "docker ps -a", "find / -name core", "ls > /dev/null"])  # fmt: skip
def test_commands_that_only_look(command: str) -> None:
    assert only_looks(command)


@pytest.mark.parametrize("command", [VACUUM, "docker image prune -f", "find /tmp -delete", "ls > files", "make", "df -h; rm x", "FOO=1", ""])  # fmt: skip
def test_commands_that_act(command: str) -> None:
    assert not only_looks(command)


def improved(command: str, metric: str = "memory_percent", before: float = 93.4, time: float = MOMENT) -> Improvement:
    return Improvement(time, metric, before, 50, command, "/home/kim")


def test_improvements_become_rows_in_the_words_of_people() -> None:
    personal = curate([], "on", improvements=[improved("sudo systemctl restart my-app")])
    rows = {row.query: row.answer for row in (*personal.train, *personal.held_out)}
    assert rows["memory is over 90 %, what helped last time?"] == "sudo systemctl restart my-app"
    assert len(rows) == len(WORDINGS["memory_percent"]) >= 5
    assert {row.source for row in personal.train} == {"interactions"} and personal.held_out


def test_what_helped_most_often_is_the_answer() -> None:
    several = [improved("pkill java"), improved("docker restart web", time=1), improved("docker restart web", time=2)]
    personal = curate([], "on", improvements=several)
    assert {row.answer for row in (*personal.train, *personal.held_out)} == {"docker restart web"}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("kill -9 4211", "number"),
        ("rm -rf build", "directory"),
        ("docker compose down", "directory"),
        ("./free-space.sh", "directory"),
        ("docker system prune -f", "not judged safe"),
        ("rm -r ~/.cache/hunter2secrets9 --password=hunter2secrets9", "secret"),
    ],
)
def test_what_cannot_be_the_answer_again_is_set_aside(command: str, reason: str) -> None:
    assert reason in str(objection(improved(command)))
    personal = curate([], "on", improvements=[improved(command)])
    assert not personal.train and not personal.held_out and personal.set_aside


@pytest.mark.parametrize("command", [VACUUM, "rm -r ~/.cache/pip", "find /tmp -type f -mtime +7 -delete", "truncate -s 0 /srv/app.log", "pkill -f worker.py"])  # fmt: skip
def test_what_means_the_same_everywhere_can_be(command: str) -> None:
    assert why_not_again(command) is None and objection(improved(command)) is None


def test_simulated_owners_are_understood_mostly_and_rarely_misunderstood() -> None:
    asked = right = wrong = 0
    for seed in range(500, 512):
        history = simulate_history(seed)
        seen = {(one.time, one.metric) for one in find_improvements(history.interactions, Stored.from_rows(history.rows))}  # fmt: skip
        asked += sum(size >= 1 for size in history.truth.values())
        right += len(seen & set(history.truth))
        wrong += len(seen - set(history.truth))
    assert asked > 30 and right > 0.5 * asked and wrong < 0.35 * right


def test_a_history_is_the_same_again_and_its_means_are_those_of_its_samples() -> None:
    history, thinned = simulate_history(3), simulate_history(3, thinned=True)
    assert history == simulate_history(3) and history.interactions == thinned.interactions
    one, other = Stored.from_rows(history.rows), Stored.from_rows(thinned.rows)
    assert np.allclose(one.means("load_1m"), other.means("load_1m"))
    assert dataclasses.replace(history, rows=()).truth == thinned.truth
