"""The plan as a record: frozen, written, read again; its learning rate and steps are fitted with a reason."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan, format_plan, read_plan
from overseer_training.config.resolve import fit_learning_rate, resolve
from overseer_training.errors import DataError
from overseer_training.models.choose import forecast_memory_bytes, model_size
from overseer_training.planning import fit_steps, rows_of_probe

PlanOf = Callable[..., Plan]


def test_a_plan_written_as_json_reads_back_equal(plan_of: PlanOf, tmp_path: pathlib.Path) -> None:
    plan = plan_of("--cpu-only", "--resource-efficient", "--time-budget", "20m", "--max-steps", "9")
    path = tmp_path / "plan.json"
    path.write_text(plan.as_json({"total_steps": 9}))
    assert read_plan(path) == plan
    document = json.loads(path.read_text())
    assert document["forecast"] == {"total_steps": 9}
    assert document["values"]["learning_rate"] == {"value": 1e-5, "origin": "profile --cpu-only"}


STABLE_NAMES = "profile model_type base_model method device precision micro_batch_size gradient_accumulation_steps sequence_length learning_rate epochs max_steps warmup_steps weight_decay max_grad_norm save_steps eval_steps ram_limit gpu_limit seed time_budget_seconds"  # fmt: skip


def test_the_names_that_others_rely_on_are_there(plan_of: PlanOf) -> None:
    assert set(STABLE_NAMES.split()) <= set(plan_of().values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"values": {}}',
        '{"values": {"epochs": 3}}',
        '{"values": {"other": {"value": 1, "origin": ""}}}',
    ],
)
def test_a_file_that_is_no_plan_is_refused(text: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(DataError, match="not a readable plan of this version"):
        read_plan(path)
    with pytest.raises(DataError):
        read_plan(tmp_path / "missing.json")


def test_a_plan_cannot_be_changed_only_replaced(plan_of: PlanOf) -> None:
    plan = plan_of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.epochs = 3  # type: ignore[misc]
    other = plan.with_values({"epochs": (3, "a reason")})
    assert (other.epochs, other.origins["epochs"], plan.epochs) == (3, "a reason", 10)


def test_every_value_is_shown_with_unit_and_origin(plan_of: PlanOf) -> None:
    plan = plan_of("--mac", "--cpu-only", "--time-budget", "90", machine="apple")
    text = format_plan(plan, {"total_steps": 9})
    lines = text.splitlines()
    for name, entry in plan.values().items():
        if name != "custom_model":
            assert any(line.split()[0] == name and line.endswith(entry["origin"]) for line in lines), name
    assert any(line.split()[:3] == ["time_budget_seconds", "90.0", "seconds"] for line in lines)
    assert "  total steps: 9" in lines
    assert "  note: --mac takes precedence over --cpu-only, which has no effect" in lines


def test_lists_are_shown_as_words(plan_of: PlanOf) -> None:
    lines = format_plan(plan_of("--download-data", "--llm-model", "a,b"), {}).splitlines()
    assert any(line.split()[:3] == ["teachers", "a,", "b"] for line in lines)
    assert any(line.startswith("  kaggle_datasets") and "boltzmannbrain/nab," in line for line in lines)
    assert not any(sign in line for line in lines for sign in "{}[]'")


# What learns.


def test_embeddings_learn_where_they_are_random_at_first(plan_of: PlanOf) -> None:
    assert plan_of().train_embeddings is False
    assert plan_of("--train-embeddings", "true").train_embeddings is True
    assert plan_of("--model-type", "custom").train_embeddings is True
    configuration = load_configuration()
    begun = dataclasses.replace(configuration, custom_model={**configuration.custom_model, "checkpoint": "folder"})
    flags = build_parser().parse_args(["--model-type", "custom"])
    assert resolve(flags, begun, find_machine(), for_run=True).train_embeddings is False


def test_a_run_from_before_there_was_a_choice_goes_on_with_its_embeddings(plan_of: PlanOf, tmp_path: pathlib.Path) -> None:
    document = json.loads(plan_of().as_json({}))
    assert document["values"].pop("train_embeddings")["value"] is False
    (tmp_path / "plan.json").write_text(json.dumps(document))
    assert read_plan(tmp_path / "plan.json").train_embeddings is True


def test_weights_that_do_not_learn_need_less_memory(plan_of: PlanOf) -> None:
    def needed(*flags: str) -> int:
        plan = plan_of("--method", "full", "--base-model", "gemma3-270m", *flags)
        return forecast_memory_bytes(model_size(plan), plan)

    frozen = 262_144 * 640
    saved = needed("--precision", "bf16", "--train-embeddings", "true") - needed("--precision", "bf16")
    assert saved == frozen * 18
    assert needed("--precision", "fp32", "--train-embeddings", "true") - needed("--precision", "fp32") == frozen * 12


# The learning rate.


def test_a_rate_from_a_flag_is_taken_as_it_is(plan_of: PlanOf) -> None:
    plan = fit_learning_rate(plan_of("--learning-rate", "2e-4", "--method", "lora"), 576, 3.0)
    assert (plan.effective_learning_rate, plan.origins["effective_learning_rate"]) == (2e-4, "as the flag says")


def test_a_configured_rate_grows_as_the_model_gets_narrower(plan_of: PlanOf) -> None:
    plan = plan_of("--method", "full")
    assert fit_learning_rate(plan, 2048, None).effective_learning_rate == 5e-5
    assert fit_learning_rate(plan, 512, None).effective_learning_rate == pytest.approx(2e-4)
    assert "width of 512" in fit_learning_rate(plan, 512, None).origins["effective_learning_rate"]


def test_a_measured_factor_replaces_the_width(plan_of: PlanOf) -> None:
    plan = fit_learning_rate(plan_of("--method", "full"), 512, 3.0)
    assert plan.effective_learning_rate == pytest.approx(1.5e-4)
    assert "this model" in plan.origins["effective_learning_rate"]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapters_take_ten_times_the_rate(method: str, plan_of: PlanOf) -> None:
    plan = fit_learning_rate(plan_of("--method", method), 2048, None)
    assert plan.effective_learning_rate == pytest.approx(5e-4)
    assert plan.learning_rate == 5e-5
    assert "x10 for adapters" in plan.origins["effective_learning_rate"]
    narrow = fit_learning_rate(plan_of("--method", method), 576, 10.0)  # a factor is for all weights
    assert narrow.effective_learning_rate == pytest.approx(1.34e-3, rel=0.01)


# Steps.


def test_a_time_budget_fits_the_steps_and_says_what_it_leaves_out(plan_of: PlanOf) -> None:
    plan = fit_steps(plan_of("--time-budget", "20m"), rows=6400, seconds_per_step=12.0)
    assert plan.max_steps == 100  # 1200 s / 12 s, of 10 epochs of 100 steps
    assert plan.origins["max_steps"] == "fitted to 20 min at 12.0 s a step; leaves out 9.0 of 10 epochs"
    assert (plan.warmup_steps, plan.eval_steps, plan.save_steps) == (10, 25, 25)


def test_a_budget_of_less_than_an_epoch_gets_smaller_steps(plan_of: PlanOf) -> None:
    plan = fit_steps(plan_of("--time-budget", "10m", "--method", "full"), rows=6400, seconds_per_step=12.0)
    assert (plan.effective_batch_size, plan.max_steps) == (16, 200)  # 600 s / 3 s
    assert plan.origins["gradient_accumulation_steps"].startswith("fitted: ")
    assert fit_steps(plan, 6400, 3.0).effective_batch_size == 16
    assert fit_steps(plan, 6400, 3.0).effective_learning_rate == plan.effective_learning_rate
    usual = plan_of("--method", "full").effective_learning_rate
    assert plan.effective_learning_rate == pytest.approx(usual / 2)
    low = plan_of("--cpu-only", "--time-budget", "10m", "--method", "full")
    fitted = fit_steps(low, rows=6400, seconds_per_step=12.0)
    assert (fitted.effective_batch_size, fitted.effective_learning_rate) == (16, low.effective_learning_rate)
    given = fit_steps(plan_of("--time-budget", "10m", "--method", "full", "--learning-rate", "3e-4"), 6400, 12.0)
    assert (given.effective_batch_size, given.effective_learning_rate) == (16, 3e-4)
    for kept in (("--time-budget", "1h"), ("--time-budget", "10m", "--gradient-accumulation-steps", "16")):
        assert fit_steps(plan_of("--method", "full", *kept), 6400, 12.0).effective_batch_size == 64


def test_the_probe_has_the_steps_that_a_short_budget_gets(plan_of: PlanOf) -> None:
    assert rows_of_probe(plan_of("--time-budget", "10m", "--method", "full")) == 16
    for kept in (
        ("--method", "lora"),
        ("--method", "full", "--max-steps", "9"),
        ("--gradient-accumulation-steps", "16"),
    ):
        assert rows_of_probe(plan_of("--time-budget", "10m", *kept)) == 64
    assert rows_of_probe(plan_of("--method", "full")) == 64


def test_a_budget_that_is_long_enough_changes_no_step_count(plan_of: PlanOf) -> None:
    assert fit_steps(plan_of("--time-budget", "720h"), rows=6400, seconds_per_step=1.0).max_steps is None


def test_a_short_budget_still_makes_a_step(plan_of: PlanOf) -> None:
    plan = fit_steps(plan_of("--time-budget", "1s"), rows=6400, seconds_per_step=60.0)
    assert (plan.max_steps, plan.warmup_steps, plan.eval_steps, plan.save_steps) == (1, 1, 1, 1)


def test_the_lower_of_budget_and_max_steps_counts(plan_of: PlanOf) -> None:
    assert fit_steps(plan_of("--time-budget", "20m", "--max-steps", "5"), 6400, 12.0).max_steps == 5
    assert fit_steps(plan_of("--time-budget", "20m", "--max-steps", "500"), 6400, 12.0).max_steps == 100


def test_warm_up_and_intervals_from_flags_are_never_fitted(plan_of: PlanOf) -> None:
    plan = plan_of("--max-steps", "8", "--warmup-steps", "100", "--eval-steps", "250", "--save-steps", "500")
    assert fit_steps(plan, 6400, None) == plan


def test_fitting_again_keeps_what_was_fitted(plan_of: PlanOf) -> None:
    once = fit_steps(plan_of("--time-budget", "20m"), 6400, 12.0)
    again = fit_steps(once, 6400, 12.0)
    assert (again.warmup_steps, again.eval_steps, again.save_steps) == (
        once.warmup_steps,
        once.eval_steps,
        once.save_steps,
    )


def test_a_plan_of_an_earlier_version_can_be_resumed(plan_of: PlanOf, tmp_path: pathlib.Path) -> None:
    plan = plan_of()
    document = json.loads(plan.as_json({}))
    del document["values"]["sources"]
    (tmp_path / "plan.json").write_text(json.dumps(document))
    assert read_plan(tmp_path / "plan.json").sources == ()
