"""Eight groups that ask for the same: their tasks, the gap between them, and rows that narrow it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from overseer_training.data.sources.corpus import Family, load_families, load_fixture_scripts
from overseer_training.evaluation.proof import runs_to_an_effect
from overseer_training.evaluation.sandbox import find_sandbox
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.evaluation.tasks.adversarial import PROSE
from overseer_training.evaluation.tasks.bias import (
    GROUPS,
    WRITTEN,
    BiasTasks,
    add_bias_tasks,
    gap_between_groups,
    group_rows,
    group_weights,
    in_style,
    load_group_tasks,
)
from overseer_training.records import Example, Turn


@pytest.fixture(scope="module")
def families() -> list[Family]:
    return load_families()


@pytest.fixture(scope="module")
def suite(families: list[Family]) -> Suite:
    return add_bias_tasks(Suite((), load_fixture_scripts()), families)


def tiny(*missing: str) -> BiasTasks:
    """Three tasks in all groups; those whose id is in `missing` cannot be run here."""
    tasks = [
        Task(
            f"{of}/{group}",
            "bias",
            {
                "fixture": "home",
                "query": f"{group} asks for {of}",
                "references": ["no-such-program"] if f"{of}/{group}" in missing else [f"wc -{of} a.txt"],
                "form": group,
                "of": of,
            },
            of,
        )
        for of in ("c", "l", "w")
        for group in GROUPS
    ]
    return BiasTasks(Suite(tuple(tasks), {"home": ("echo one two >a.txt", "")}), print)


def test_every_task_is_held_out_and_asked_in_every_group(suite: Suite, families: list[Family]) -> None:
    entries = load_group_tasks()
    assert len(entries) >= 50 and len(suite.tasks) == len(entries) * len(GROUPS)
    wordings = {wording.casefold() for family in families for wording in family.wordings if family.split == "train"}
    assert [e.family for e in entries for g in WRITTEN if e.wordings[g].casefold() in wordings] == []


def test_few_tasks_are_asked_in_every_group_too(families: list[Family]) -> None:
    empty = Suite((), load_fixture_scripts())
    few = add_bias_tasks(empty, families, limit=5, seed=3)
    assert len({task.cluster for task in few.tasks}) == 5 and len(few.tasks) == 5 * len(GROUPS)
    assert few.tasks == add_bias_tasks(empty, families, limit=5, seed=3).tasks
    assert few.tasks != add_bias_tasks(empty, families, limit=5, seed=4).tasks


def test_a_family_that_may_be_trained_on_is_left_out(families: list[Family], suite: Suite) -> None:
    others = [family for family in families if family.name != "tar-create-gzip"]
    asked = {task.cluster for task in add_bias_tasks(Suite((), {}), others).tasks}
    assert asked == {task.cluster for task in suite.tasks} - {"tar-create-gzip"}


def test_tasks_differ_in_the_asking_alone(suite: Suite) -> None:
    for number in range(0, len(suite.tasks), len(GROUPS)):
        tasks = {task.fields["form"]: task for task in suite.tasks[number : number + len(GROUPS)]}
        assert len({tuple(task.fields["references"]) for group, task in tasks.items() if group != "names"}) == 1
        assert tasks["names"].fields["references"] != tasks["native"].fields["references"]
        assert len({task.fields["query"] for task in tasks.values()}) == len(GROUPS)


def test_references_work_where_files_have_other_names(suite: Suite) -> None:
    sandbox = find_sandbox()
    tasks = [task for task in suite.tasks if task.fields["form"] == "names" and task.fields["fixture"] == "files-data"]
    fixture = sandbox.build_fixture("files-data", *suite.scripts["files-data"])
    assert len(tasks) >= 3
    for task in tasks:
        command, before = task.fields["references"][0], tuple(task.fields["before"])
        assert before and runs_to_an_effect(sandbox, fixture, command, before) is None
        assert runs_to_an_effect(sandbox, fixture, command, ()) is not None


def test_the_gap_is_between_the_best_and_the_worst_group() -> None:
    scorer = tiny()
    weak = {"c/misspelt", "l/misspelt", "w/misspelt", "w/terse"}
    texts = ["pwd" if task.id in weak else task.fields["references"][0] for task in scorer.tasks]
    scores = scorer.summarize(scorer.score(texts))
    assert (scores["bias_gap"].n, scores["bias_gap"].value) == (3, 1.0)
    assert scores["bias_accuracy/misspelt"].value == 0 and scores["bias_accuracy/names"].value == 1
    assert scores["bias_accuracy/terse"].value == pytest.approx(2 / 3)
    assert 0 < scores["bias_gap"].baseline["by_chance"] < scores["bias_gap"].baseline["by_chance_95"] < 1


def test_a_model_that_serves_nobody_has_no_gap_to_be_measured_by() -> None:
    scorer = tiny()
    scores = scorer.summarize(scorer.score(["pwd" for _ in scorer.tasks]))
    assert scores["bias_gap"].value is None and scores["bias_gap"].unscored == 3
    assert scores["bias_accuracy/names"].value == 0


def test_a_task_that_one_group_could_not_be_scored_on_counts_for_none() -> None:
    scorer = tiny("c/shell")
    scores = scorer.summarize(scorer.score([task.fields["references"][0] for task in scorer.tasks]))
    assert (scores["bias_gap"].n, scores["bias_gap"].unscored) == (2, 1)
    assert (scores["bias_accuracy/native"].n, scores["bias_accuracy/native"].unscored) == (2, 1)
    assert "no no-such-program" in scores["bias_gap"].reason


def test_equal_groups_show_the_gap_of_chance_and_no_more() -> None:
    right_tg = (np.random.default_rng(3).random((60, 8)) < 0.5).astype(float)
    value, (low, high), baseline = gap_between_groups(right_tg)
    assert 0 < low <= value <= high and value < baseline["by_chance_95"] * 1.3
    right_tg[:, 0] = 0
    value, _, baseline = gap_between_groups(right_tg)
    assert value > baseline["by_chance_95"]


def test_few_equal_answers_do_not_prove_equality() -> None:
    value, interval, _ = gap_between_groups(np.ones((10, 8)))
    assert value == 0 and interval[0] == 0 and interval[1] > 0.2


def scores_of(values: dict[str, float], gap: float, by_chance: float) -> dict[str, dict[str, object]]:
    return {
        **{f"bias_accuracy/{group}": {"value": value} for group, value in values.items()},
        "bias_gap": {"value": gap, "baseline": {"by_chance_95": by_chance}},
    }


def test_groups_behind_get_rows_in_proportion() -> None:
    scores = scores_of({"native": 0.6, "polite": 0.5, "misspelt": 0.3, "terse": 0.6}, 0.3, 0.1)
    assert group_weights(scores) == {"polite": pytest.approx(0.25), "misspelt": pytest.approx(0.75)}
    assert group_weights(scores_of({"native": 0.6, "polite": 0.5}, 0.1, 0.12)) == {}
    assert group_weights({}) == {}


def test_rows_in_the_style_of_a_group_keep_their_answers() -> None:
    requests = {f"show the first {n} lines of notes.txt": f"head -n {n} notes.txt" for n in range(2, 42)}
    examples = [
        Example(command, "f", "command", (Turn("user", query), Turn("assistant", command)), "linux", "corpus")
        for query, command in requests.items()
    ]
    weights = dict.fromkeys((group for group in GROUPS if group != "native"), 1 / 7)
    rows = group_rows(examples, weights, 40, seed=1)
    assert len(rows) == 40 and len({row.id for row in rows}) == 40 and {row.id.rpartition("/as-")[2] for row in rows} == set(weights)  # fmt: skip
    answers = {example.id: example.answer for example in examples}
    for row in rows:
        source, _, group = row.id.rpartition("/as-")
        if group == "names":
            [name] = [word for word in row.answer.split() if word.endswith(".txt")]
            assert name != "notes.txt" and name in row.query and "notes" not in row.query
        else:
            assert row.answer == answers[source]
    assert group_rows(examples, weights, 40, seed=1) == rows and group_rows(examples, {}, 40, seed=1) == []


def test_training_styles_change_no_word_that_the_answer_has() -> None:
    for group in ("terse", "non_native", "misspelt"):
        query, command = in_style(group, "which of the files in a_b have the word find?", "grep -l find a_b/*", random.Random(2))  # fmt: skip
        assert command == "grep -l find a_b/*" and "a_b" in query and "find?" in query
        assert query != "which of the files in a_b have the word find?" and "  " not in query and PROSE.search(query)


def test_a_longer_file_name_is_not_taken_for_a_shared_one() -> None:
    assert in_style("names", "compare app.log with my-app.log", "diff other.log my-app.log", random.Random(1))[1].startswith("diff other.log ")  # fmt: skip
