"""How recommendations are scored: the place of the first right tool, what is installed, what cannot be scored, and the baselines."""

from __future__ import annotations

from typing import Any

import pytest

from overseer_training.data.tools.requests import load_tool_requests
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.evaluation.tasks.tools import NOT_NAMED, ToolTasks
from overseer_training.prompts import SYSTEM_PROMPTS


def task(number: int = 0, **fields: Any) -> Task:
    values = {"query": "what fills my disk", "acceptable": ["ncdu", "gdu"], **fields}
    return Task(f"t{number}", "tools", values, f"cluster {number}")


def tool_tasks(*tasks: Task) -> ToolTasks:
    return ToolTasks(Suite(tasks, {}))


def reason(text: str, **fields: Any) -> str:
    [answer] = tool_tasks(task(**fields)).score([text])
    assert answer.equal is (answer.reason == "right in place 1")
    return answer.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ncdu: browse\nsudo apt install ncdu\nalso: df, du", "right in place 1"),
        ("df: free space\nalso: du, gdu", "right in place 3"),
        ("invented: does it all\nalso: gdu", "right in place 2"),
        ("1. df\n2. du\n3. duf\n4. ncdu", NOT_NAMED),
        ("", NOT_NAMED),
        ("I do not know.", NOT_NAMED),
    ],
)
def test_the_place_of_the_first_right_tool_counts(text: str, expected: str) -> None:
    assert reason(text) == expected


def test_only_an_installed_tool_is_right_where_one_would_do() -> None:
    assert reason("ncdu: x\nalso: gdu", installed=["gdu", "vim"]) == "right in place 2"
    assert reason("ncdu: x\nalso: gdu", installed=["vim"]) == "right in place 1"


def test_a_tool_has_several_names() -> None:
    for text, acceptable in (("rg: x", "ripgrep"), ("`ripgrep` does it", "rg"), ("RG: x", "rg"), ("own: x", "Own")):
        assert reason(text, acceptable=[acceptable]) == "right in place 1"


@pytest.mark.parametrize("acceptable", [[], "ncdu", None, [3]])
def test_a_task_without_acceptable_tools_is_unscored_and_not_wrong(acceptable: Any) -> None:
    scorer = tool_tasks(task(1, acceptable=acceptable), task(2))
    scores = scorer.summarize(scorer.score(["ncdu: x", "ncdu: x"]))
    for name in ("tool_hit_at_1", "tool_hit_at_3", "tool_mrr"):
        assert (scores[name].n, scores[name].value, scores[name].unscored) == (1, 1.0, 1)
        assert "acceptable" in scores[name].reason


def test_no_tasks_give_scores_without_a_value() -> None:
    scorer = tool_tasks()
    assert scorer.questions == [] and all(score.n == 0 for score in scorer.summarize([]).values())


def test_the_three_measures_differ_as_they_should() -> None:
    scorer = tool_tasks(*(task(number) for number in range(4)))
    scores = scorer.summarize(scorer.score(["ncdu: x", "df: x\nalso: ncdu", "df: x\nalso: du, gdu", "df: x"]))
    assert scores["tool_hit_at_1"].value == 1 / 4
    assert scores["tool_hit_at_3"].value == 3 / 4
    assert scores["tool_mrr"].value == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    for score in scores.values():
        assert score.ci95 is not None and score.value is not None
        assert 0 <= score.ci95[0] < score.value < score.ci95[1] <= 1


def test_a_model_reads_the_need_and_eight_candidates_with_what_is_installed() -> None:
    scorer = tool_tasks(task(installed=["gdu"]), Task("m", "tools", task().fields, "m", "macos"))
    (linux_system, linux), (macos_system, macos) = [question.messages for question in scorer.questions]
    assert (linux_system["content"], macos_system["content"]) == (SYSTEM_PROMPTS["linux"], SYSTEM_PROMPTS["macos"])
    lines = linux["content"].split("\n")
    assert lines[0] == "Which tool? what fills my disk" and len(lines) == 9
    assert any(line.startswith("gdu (installed): ") for line in lines)
    assert "ncdu (apt): " in linux["content"] and "ncdu (brew): " in macos["content"]


def test_baselines_stand_beside_the_model_on_the_packaged_requests() -> None:
    requests = load_tool_requests()
    scorer = tool_tasks(
        *(
            Task(
                f"tools/{number}",
                "tools",
                {"query": item.need, "acceptable": list(item.acceptable), "installed": list(item.installed)},
                item.category,
                item.platform,
            )
            for number, item in enumerate(requests)
        )
    )
    right = [
        next((name for name in item.acceptable if name in item.installed), item.acceptable[0]) for item in requests
    ]
    perfect = scorer.summarize(scorer.score([f"{name}: x" for name in right]))
    assert all(score.value == 1 and score.unscored == 0 for score in perfect.values())
    baseline = perfect["tool_hit_at_1"].baseline
    # Search alone must be a rival, and must leave something to do.
    assert 0.3 < baseline["bm25"] < baseline["bm25_installed_first"] < 0.9
