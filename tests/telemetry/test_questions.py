"""Questions have true answers, prompts are short, answers are read back, and machines never cross a split."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer_training.telemetry.combination import fit
from overseer_training.telemetry.examples import examples, tasks, tasks_of
from overseer_training.telemetry.questions import CAUSES, COMMANDS, ask, problems_of
from overseer_training.telemetry.recordings import Incident, Recording, split_of
from overseer_training.telemetry.simulate import simulate
from overseer_training.telemetry.wording import parse_answer, render, render_answer

METRICS = ("cpu_percent", "memory_percent", "disk_percent", "load_1m", "network_mbit")
SPLITS = ("train", "validation", "test")
QUESTIONS: dict[str, dict[str, Any]] = {
    "threshold": {"type": "threshold", "metric": "cpu_percent", "limit": 80, "horizon_seconds": 3600},
    "forecast": {"type": "forecast", "metric": "cpu_percent", "horizon_seconds": 3600},
    "anomaly": {"type": "anomaly", "span_seconds": 3600},
    "cause": {"type": "cause"},
}


@pytest.fixture(scope="module")
def asked() -> list[dict[str, Any]]:
    return tasks(80, 3, "test")


def line(name: str = "line", incidents: tuple[Incident, ...] | None = ()) -> Recording:
    """Every metric rises by 0.1 a step, from 10 to 50."""
    return Recording(name, 0.0, 300, {metric: 10 + 0.1 * np.arange(400) for metric in METRICS}, incidents)


def test_answers_are_what_happened_next(asked: list[dict[str, Any]]) -> None:
    machines = {task["machine"]: simulate(task["machine"]) for task in asked}
    checked = 0
    for task in asked:
        question = task["question"]
        if question["type"] not in ("threshold", "forecast"):
            continue
        values = machines[task["machine"]].series[question["metric"]]
        shown = np.array([np.nan if v is None else v for v in task["window"]["series"][question["metric"]]])
        steps = question["horizon_seconds"] // 300
        views = np.lib.stride_tricks.sliding_window_view(values, len(shown))
        ends = np.flatnonzero((np.isclose(views, shown, rtol=1e-4, atol=1e-3) | np.isnan(views)).all(axis=1)) + len(
            shown
        )
        assert len(ends) == 1
        future = values[ends[0] : ends[0] + steps]
        if question["type"] == "threshold":
            assert task["answer"] == (np.nanmax(future) > question["limit"])
            assert np.nanmax(shown[-12:]) < question["limit"]
        else:
            assert task["answer"] == pytest.approx(np.nanmean(future), rel=1e-4)
        checked += 1
    assert checked > 30


def test_an_anomaly_is_told_with_its_place_and_age() -> None:
    recording = line(incidents=(Incident("memory_leak", "memory_percent", 300, 400),))
    rng = np.random.default_rng(0)
    found = ask(recording, "anomaly", 324, 12, rng)
    assert found is not None
    assert found[2] == {"abnormal": True, "metric": "memory_percent", "since_seconds": 24 * 300}
    assert ask(recording, "anomaly", 306, 12, rng) is None  # too young for anybody to know
    calm = ask(recording, "anomaly", 290, 12, rng)
    assert calm is not None and calm[2]["abnormal"] is False
    assert ask(dataclasses.replace(recording, incidents=None), "anomaly", 324, 12, rng) is None


def test_a_cause_is_told_and_jobs_need_three_runs() -> None:
    jobs = tuple(Incident("periodic_job", "cpu_percent", start, start + 3) for start in range(0, 400, 24))
    rng = np.random.default_rng(0)

    def cause(incidents: tuple[Incident, ...], end: int) -> Any:
        found = ask(line(incidents=incidents), "cause", end, 6, rng)
        return found and found[2]

    assert cause((), 200) == "nothing"
    assert cause(jobs, 200) == "periodic_job"
    assert cause(jobs[:2], 80) is None
    assert cause((Incident("traffic_burst", "network_mbit", 190, 220),), 200) == "traffic_burst"
    assert cause((Incident("restart", "memory_percent", 190, 220),), 200) is None


def test_windows_with_gaps_are_not_asked_about() -> None:
    recording = line()
    for values in recording.series.values():
        values[150:200] = np.nan
    rng = np.random.default_rng(0)
    assert ask(recording, "forecast", 200, 6, rng) is None
    assert ask(recording, "forecast", 400, 6, rng) is None  # no future


def test_answers_are_balanced_and_of_every_kind() -> None:
    found = tasks(400, 0, "train")
    by_kind: dict[str, list[Any]] = {}
    for task in found:
        by_kind.setdefault(task["question"]["type"], []).append(task["answer"])
    assert set(by_kind) == set(QUESTIONS)
    assert min(len(answers) for answers in by_kind.values()) > 70
    assert 0.4 < np.mean(by_kind["threshold"]) < 0.6
    assert 0.4 < np.mean([answer["abnormal"] for answer in by_kind["anomaly"]]) < 0.6
    assert all(by_kind["cause"].count(cause) > 8 for cause in CAUSES)


def test_tasks_are_valid_and_problems_are_found(asked: list[dict[str, Any]]) -> None:
    assert [problems_of(task) for task in asked] == [[]] * len(asked)
    task = next(task for task in asked if task["question"]["type"] == "threshold")
    metric = task["question"]["metric"]
    broken: list[dict[str, Any]] = [
        {"window": None},
        {"window": {"step_seconds": 0, "series": {metric: [1, 2, 3]}}},
        {"window": {"step_seconds": 300, "series": {metric: [1, "2", 3]}}},
        {"window": {"step_seconds": 300, "series": {metric: [None] * 9}}},
        {"window": {"step_seconds": 300, "series": {metric: [1, 2, 3], "b": [1, 2]}}},
        {"question": {"type": "weather"}},
        {"question": {**task["question"], "metric": "b"}},
        {"question": {**task["question"], "limit": "high"}},
        {"question": {**task["question"], "horizon_seconds": -1}},
        {"answer": "yes"},
    ]
    assert [len(problems_of({**task, **change})) for change in broken] == [1] * len(broken)


def test_the_same_seed_gives_the_same_rows_and_another_does_not() -> None:
    assert examples(40, 1, "train") == examples(40, 1, "train")
    assert {row.query for row in examples(40, 1, "train")}.isdisjoint(row.query for row in examples(40, 2, "train"))


def test_no_machine_is_in_two_splits() -> None:
    recordings = [dataclasses.replace(line(f"host-{number}"), incidents=None) for number in range(40)]
    for recording in recordings:
        for values in recording.series.values():
            values += np.random.default_rng(0).normal(0, 1, len(values))
    families = [{row.family for row in examples(80, 0, split, recordings)} for split in SPLITS]
    assert not families[0] & families[1] and not families[0] & families[2] and not families[1] & families[2]
    assert all(any("host-" in family for family in one) for one in families)
    for split, one in zip(SPLITS, families, strict=True):
        assert {split_of(family.removeprefix("telemetry/")) for family in one if "host-" in family} == {split}


def test_rows_say_what_the_parser_reads() -> None:
    for row in examples(80, 0, "train"):
        assert row.skill == "prediction" and len(row.turns) == 2
        assert len(row.query) < 330  # at about 2.5 characters a token
        kind = "threshold" if "\nOver " in row.query else "forecast" if "Mean of" in row.query else None
        kind = kind or ("anomaly" if "abnormal?" in row.query else "cause")
        assert parse_answer(QUESTIONS[kind], row.answer) is not None


def test_recordings_without_labels_give_two_kinds_and_short_ones_end() -> None:
    recording = simulate("somewhere", days=3)
    unlabelled = dataclasses.replace(recording, incidents=None)
    assert {task["question"]["type"] for task in tasks_of([unlabelled], 12, 0)} == {"threshold", "forecast"}
    assert tasks_of([Recording("short", 0.0, 300, {"a": np.arange(20.0)})], 10, 0) == []


@pytest.mark.parametrize(
    ("kind", "answer", "text"),
    [
        ("threshold", True, "yes 1.00"),
        ("threshold", {"probability": 0.15}, "no 0.15"),
        ("forecast", 41.23456, "41.23"),
        ("forecast", 6_596_902.4, "6.597e+06"),
        ("anomaly", {"abnormal": False, "metric": None, "since_seconds": None}, "no"),
        ("anomaly", {"abnormal": True, "metric": "disk_percent", "since_seconds": 7200}, "yes disk for 120 min"),
        ("anomaly", {"abnormal": True, "metric": None, "since_seconds": 7200}, "yes"),
        *(("cause", cause, f"{cause.replace('_', ' ')}: {COMMANDS[cause]}") for cause in CAUSES),
    ],
)
def test_answers_are_written_and_read_back(kind: str, answer: Any, text: str) -> None:
    question = QUESTIONS[kind]
    assert render_answer(question, answer) == text
    assert render_answer(question, parse_answer(question, text)) == text


@pytest.mark.parametrize(
    ("kind", "text", "read"),
    [
        ("threshold", "Yes, with 85 % probability.", {"probability": 0.85}),
        ("threshold", "No.", {"probability": 0.0}),
        ("threshold", "maybe", None),
        ("forecast", "about -4.5 percent", -4.5),
        ("forecast", "unknown", None),
        ("anomaly", "I cannot tell", None),
        ("cause", "Looks like a Memory Leak.", "memory_leak"),
        ("cause", "runaway_process", "runaway_process"),
        ("cause", "gremlins", None),
        *((kind, "", None) for kind in QUESTIONS),
    ],
)
def test_answers_in_other_words_are_read_or_given_up(kind: str, text: str, read: Any) -> None:
    assert parse_answer(QUESTIONS[kind], text) == read


@settings(max_examples=100)
@given(text=st.text(max_size=60), kind=st.sampled_from(sorted(QUESTIONS)))
def test_no_text_breaks_the_parser(text: str, kind: str) -> None:
    read = parse_answer(QUESTIONS[kind], text)
    assert read is None or render_answer(QUESTIONS[kind], read)


@settings(max_examples=40)
@given(
    values=st.lists(st.none() | st.floats(-1e12, 1e12), min_size=3, max_size=40).filter(
        lambda v: any(x is not None for x in v)
    ),
    kind=st.sampled_from(sorted(QUESTIONS)),
    step=st.sampled_from([1, 60, 300, 3600]),
)
def test_every_window_has_a_prompt(values: list[float | None], kind: str, step: int) -> None:
    window = {"step_seconds": step, "series": {"cpu_percent": values}}
    prompt = render(window, QUESTIONS[kind])
    assert prompt and "nan" not in prompt and "inf" not in prompt
    assert fit([]).answer(window, QUESTIONS["threshold"]) == {"probability": 0.5}
