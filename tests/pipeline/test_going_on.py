"""Where a run that learns from its owner starts: from the newest model, unless it is asked for another kind of model."""

from __future__ import annotations

import pathlib

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.plan import Plan
from overseer_training.planning import make_plan


def plan_of(runs: pathlib.Path, *flags: str) -> Plan:
    arguments = ("--device", "cpu", "--output-dir", str(runs), *flags)
    return make_plan(build_parser().parse_args(arguments), for_run=False)[0]


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of runs whose newest one trained adapters for SmolLM2."""
    run = tmp_path / "runs" / "first"
    (run / "model").mkdir(parents=True)
    (run / "model" / "overseer.json").write_text("{}")
    plan = plan_of(tmp_path, "--method", "lora", "--base-model", "smollm2-135m", "--lora-rank", "32")
    (run / "plan.json").write_text(plan.as_json({}))
    (run.parent / "latest").symlink_to("first")
    return run.parent


def test_learning_goes_on_from_the_newest_model(runs: pathlib.Path) -> None:
    plan = plan_of(runs, "--continuous-learning")
    assert (plan.base_model, plan.method) == ("smollm2-135m", "lora")
    assert plan.start_from == str((runs / "first").resolve())
    anew = plan_of(runs, "--method", "lora", "--base-model", "smollm2-135m")
    assert plan.effective_learning_rate == pytest.approx(0.2 * anew.effective_learning_rate)
    assert (plan.effective_batch_size, anew.effective_batch_size) == (16, 64)


def test_the_same_model_by_name_is_no_other_model(runs: pathlib.Path) -> None:
    plan = plan_of(runs, "--continuous-learning", "--base-model", "smollm2-135m", "--learning-rate", "1e-4")
    assert plan.start_from and plan.effective_learning_rate == 1e-4


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--base-model", "gemma3-270m"), "another base_model"),
        (("--method", "full"), "another method"),
        (("--lora-rank", "8"), "another lora_rank"),
        (("--model-type", "custom"), "another model_type"),
    ],
)
def test_another_kind_of_model_starts_anew_and_says_why(
    runs: pathlib.Path, flags: tuple[str, ...], reason: str
) -> None:
    plan = plan_of(runs, "--continuous-learning", *flags)
    assert plan.start_from == "" and plan.origins["start_from"].endswith(reason)


def test_without_a_model_or_a_readable_plan_it_starts_anew(runs: pathlib.Path) -> None:
    assert "no model yet" in plan_of(runs / "elsewhere", "--continuous-learning").origins["start_from"]
    (runs / "first" / "plan.json").write_text("{}")
    assert "another version" in plan_of(runs, "--continuous-learning").origins["start_from"]


def test_nothing_else_goes_on_from_it(runs: pathlib.Path) -> None:
    assert plan_of(runs).start_from == ""
