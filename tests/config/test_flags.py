"""Each flag changes its value of the plan; flags win over profiles, profiles over the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.load import CONFIG_PATH
from overseer_training.config.plan import Plan
from overseer_training.config.schema import FIELDS, Field
from overseer_training.errors import ConfigError, UsageError

PlanOf = Callable[..., Plan]

GIVEN: dict[str, tuple[str, Any]] = {
    "model_type": ("custom", "custom"),
    "base_model": ("gemma3-270m", "gemma3-270m"),
    "method": ("dora", "dora"),
    "train_embeddings": ("true", True),
    "device": ("cpu", "cpu"),
    "precision": ("bf16", "bf16"),
    "micro_batch_size": ("3", 3),
    "gradient_accumulation_steps": ("7", 7),
    "sequence_length": ("333", 333),
    "learning_rate": ("3e-4", 3e-4),
    "ram_limit": ("81%", 0.81),
    "gpu_limit": ("0.33", 0.33),
    "epochs": ("2", 2),
    "max_steps": ("11", 11),
    "time_budget_seconds": ("1h30m", 5400.0),
    "warmup_steps": ("5", 5),
    "weight_decay": ("0.2", 0.2),
    "max_grad_norm": ("0.5", 0.5),
    "save_steps": ("13", 13),
    "eval_steps": ("17", 17),
    "early_stopping_patience": ("2", 2),
    "seed": ("7", 7),
    "lora_rank": ("8", 8),
    "lora_alpha": ("24", 24.0),
    "lora_dropout": ("0.1", 0.1),
    "macos_share": ("0.5", 0.5),
    "explanation_share": ("25%", 0.25),
    "variant_share": ("50%", 0.5),
    "composed_rows": ("500", 500),
    "prediction_rows": ("70", 70),
    "least_skill_share": ("0.02", 0.02),
    "safety_share": ("0.05", 0.05),
    "personal_share": ("0.3", 0.3),
    "machine_share": ("0.4", 0.4),
    "replay_share": ("0.7", 0.7),
    "self_improvement_rounds": ("2", 2),
    "self_improvement_requests": ("50", 50),
    "self_improvement_samples": ("3", 3),
    "misspelt_share": ("2%", 0.02),
    "teachers": ("a,b", ["a", "b"]),
    "teacher_requests": ("5", 5),
    "teacher_seconds": ("5m", 300.0),
    "augmented_copies": ("1", 1),
    "sources": ("tldr, my.csv", ["tldr", "my.csv"]),
    "test_tasks": ("12", 12),
}


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
@pytest.mark.parametrize("profile", [(), ("--resource-efficient",)], ids=["default", "resource-efficient"])
def test_each_flag_changes_its_value_and_origin(field: Field, profile: tuple[str, ...], plan_of: PlanOf) -> None:
    text, value = GIVEN[field.name]
    without, given = plan_of(*profile), plan_of(*profile, field.flag, text)
    assert getattr(given, field.name) == value
    assert given.origins[field.name] == f"flag {field.flag}"
    if field.name != "device":  # cpu is what this machine has anyway
        assert getattr(without, field.name) != value
    settled_with_it = {"model_type": {"method", "train_embeddings"}, "device": {"precision"}}.get(field.name, set())
    for name, entry in without.values().items():
        if name not in {field.name, "effective_learning_rate", *settled_with_it}:
            assert given.values()[name] == entry


def test_every_value_has_a_flag_and_a_test() -> None:
    assert all(field.flag for field in FIELDS)
    assert set(GIVEN) == {field.name for field in FIELDS}


def test_flags_win_over_profiles_and_profiles_over_the_file(plan_of: PlanOf) -> None:
    plan = plan_of("--cpu-only", "--sequence-length", "512")
    assert (plan.sequence_length, plan.origins["sequence_length"]) == (512, "flag --sequence-length")
    assert (plan.learning_rate, plan.origins["learning_rate"]) == (1e-5, "profile --cpu-only")
    assert (plan.epochs, plan.origins["epochs"]) == (10, CONFIG_PATH.name)


def test_every_value_of_a_plan_names_its_origin(plan_of: PlanOf) -> None:
    values = plan_of("--cpu-only").values()
    assert all(entry["origin"] for entry in values.values())


def test_all_problems_come_in_one_message(plan_of: PlanOf) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of("--cpu-only", "--device", "mps", "--epochs", "0", "--learning-rate", "nan", "--use-existing-data", "--run-name", "a", "--resume-from-checkpoint", "b")  # fmt: skip
    message = str(caught.value)
    assert message.startswith(f"{len(caught.value.problems)} problems: ")
    for part in (
        "--cpu-only and --device mps",
        "--epochs must be",
        "--learning-rate must be",
        "--run-name names a new run",
    ):
        assert part in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--cpu-only", "--device", "cuda"), "--cpu-only and --device cuda contradict each other"),
        (("--method", "lora", "--train-embeddings", "true"), "--train-embeddings needs --method full"),
        (("--mac", "--device", "cpu"), "--mac trains on MPS and contradicts --device cpu"),
        (("--model-type", "custom", "--method", "lora"), "would freeze them"),
        (("--model-type", "custom", "--base-model", "x"), "custom_model['checkpoint']"),
        (("--resume-from-checkpoint", "x", "--run-name", "y"), "give one"),
        (("--use-existing-data", "--llm-integration"), "--use-existing-data takes what is there"),
        (("--use-existing-data", "--continuous-learning"), "--use-existing-data takes what is there"),
        (("--self-improve", "2", "--continuous-learning"), "--self-improve from the corpus"),
        (("--device", "cuda"), "--device cuda needs an NVIDIA GPU"),
        (("--device", "mps"), "--device mps needs Apple Silicon"),
    ],
)
def test_contradictions_are_refused(flags: tuple[str, ...], part: str, plan_of: PlanOf) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as caught:
        plan_of(*flags)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "teachers", "hybrid"),
    [
        ((), (), False),
        (("--llm-hybrid", "false"), (), False),
        (("--llm-integration",), ("gemma3n",), False),
        (("--llm-model", "qwen3:0.6b"), ("qwen3:0.6b",), False),
        (("--llm-api-key", "AIza-very-secret"), ("gemini:",), False),
        (("--llm-integration", "--llm-api-key", "AIza-very-secret"), ("gemma3n", "gemini:"), False),
        (("--llm-hybrid", "true"), ("gemma3n",), True),
        (("--model-type", "hybrid"), ("gemma3n",), True),
        (("--llm-hybrid", "true", "--llm-model", "a,b.gguf"), ("a", "b.gguf"), True),
    ],
)
def test_teachers_are_those_that_were_asked_for(
    flags: tuple[str, ...], teachers: tuple[str, ...], hybrid: bool, plan_of: PlanOf
) -> None:
    plan = plan_of(*flags)
    assert (tuple(plan.teachers), plan.hybrid) == (teachers, hybrid)
    assert "secret" not in plan.as_json({})


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("--lerning-rate", "--learning-rate"), ("--cpu", None), ("--resume", None), ("--epoch=3", "--epochs")],
)
def test_an_unknown_flag_names_the_nearest(wrong: str, near: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        build_parser().parse_args([wrong])
    message = str(caught.value)
    assert message.startswith(f"unknown argument {wrong.split('=')[0]}; ")
    assert message.endswith(f"did you mean {near}?") if near else "; " in message


def test_a_mistyped_key_flag_does_not_show_the_key() -> None:
    for arguments in (["--llm-apikey=AIza-very-secret"], ["--llm-apikey", "AIza-very-secret"]):
        with pytest.raises(UsageError) as caught:
            build_parser().parse_args(arguments)
        assert "secret" not in str(caught.value)


def test_flags_are_not_abbreviated() -> None:
    with pytest.raises(UsageError, match="unknown argument --learning"):
        build_parser().parse_args(["--learning", "1e-4"])
