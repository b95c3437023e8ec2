"""training_config.py: what is read from it, and what a person is told when it is wrong."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.load import CONFIG_PATH, load_configuration
from overseer_training.config.machine import Machine
from overseer_training.config.resolve import resolve
from overseer_training.config.schema import FIELDS
from overseer_training.errors import ConfigError
from overseer_training.evaluation.checks import Thresholds

Edited = Callable[..., pathlib.Path]


@pytest.fixture
def edited(tmp_path: pathlib.Path) -> Edited:
    """`edited(("epochs", "epoch"))`: a copy of the shipped file with the first of each pair replaced by the second."""

    def make(*changes: tuple[str, str]) -> pathlib.Path:
        text = CONFIG_PATH.read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "training_config.py"
        path.write_text(text)
        return path

    return make


def problems_of(path: pathlib.Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_configuration(path)
    assert "\n" not in str(caught.value)
    return caught.value.problems


def test_the_shipped_file_has_every_value_and_nothing_else() -> None:
    configuration = load_configuration()
    assert set(configuration.values) == {field.name for field in FIELDS}
    assert set(configuration.profiles) == {"mac", "resource-efficient", "cpu-only"}


def test_an_edited_number_reaches_the_plan(edited: Edited) -> None:
    configuration = load_configuration(
        edited(('"epochs": 10', '"epochs": 3'), ('"memory_threshold": 0.75', '"memory_threshold": "66%"'))
    )
    machine = Machine("Linux", "gpu", 2, 2**34, frozenset(), has_mps=False, has_cuda=True)
    flags: argparse.Namespace = build_parser().parse_args([])
    plan = resolve(flags, configuration, machine, for_run=True)
    assert (plan.epochs, plan.ram_limit, plan.gpu_limit) == (3, 0.66, 0.66)


def test_limits_of_the_gate_reach_what_judges(edited: Edited) -> None:
    changed = edited(('"bias_gap": 0.25', '"bias_gap": "30%"'), ('"noise_kept": 0.50', '"noise_kept": None'))
    machine = Machine("Linux", "cpu", 2, 2**34, frozenset(), has_mps=False, has_cuda=False)
    plan = resolve(build_parser().parse_args([]), load_configuration(changed), machine, for_run=True)
    thresholds = Thresholds(**plan.gate)
    assert (thresholds.bias_gap, thresholds.noise_kept, thresholds.attack_success) == (0.3, None, 0.1)
    assert plan.values()["gate"]["origin"] == "training_config.py"


def test_every_limit_of_the_gate_can_be_configured() -> None:
    assert set(load_configuration().gate) == {field.name for field in dataclasses.fields(Thresholds)}


def test_an_edited_profile_reaches_the_plan(edited: Edited) -> None:
    configuration = load_configuration(edited(('"sequence_length": 128,', '"sequence_length": 192,')))
    machine = Machine("Linux", "cpu", 2, 2**34, frozenset(), has_mps=False, has_cuda=False)
    plan = resolve(build_parser().parse_args(["--cpu-only"]), configuration, machine, for_run=True)
    assert (plan.sequence_length, plan.origins["sequence_length"]) == (192, "profile --cpu-only")


def test_a_syntax_error_names_file_and_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "training_config.py"
    path.write_text("ai_config = {\n    'a': 1\n")
    (problem,) = problems_of(path)
    assert problem.startswith(f"cannot read {path}, line 1: SyntaxError")


@pytest.mark.parametrize(
    "text", ["1 / 0", "import sys; sys.exit(0)", "raise ValueError('two\\nlines')", "import nowhere_to_be_found"]
)
def test_whatever_the_file_raises_is_one_line(text: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "training_config.py"
    path.write_text(text)
    (problem,) = problems_of(path)
    assert problem.startswith(f"cannot read {path}: ")


def test_a_missing_file_is_a_usage_error(tmp_path: pathlib.Path) -> None:
    (problem,) = problems_of(tmp_path / "nowhere.py")
    assert "FileNotFoundError" in problem


@pytest.mark.parametrize(
    "group", ["ai_config", "training_params", "lora_config", "data_config", "custom_model", "gate_config", "profiles"]
)
def test_a_missing_group_is_named(group: str, edited: Edited) -> None:
    problems = problems_of(edited((f"\n{group} = ", f"\nmy_{group} = ")))
    assert f"training_config.py has no dictionary {group}" in problems


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"epochs": 10', '"epoch": 10'), ["training_config.py: training_params lacks 'epochs'", "training_config.py: training_params has no 'epoch'; did you mean 'epochs'?"]),
        (('"hidden_size"', '"hiden_size"'), ["training_config.py: custom_model lacks 'hidden_size'", "training_config.py: custom_model has no 'hiden_size'; did you mean 'hidden_size'?"]),
        (('"bias_gap"', '"bias_gaps"'), ["training_config.py: gate_config lacks 'bias_gap'", "training_config.py: gate_config has no 'bias_gaps'; did you mean 'bias_gap'?"]),
        (('"mac": {', '"apple": {'), ["training_config.py: profiles lacks 'mac'", "training_config.py: profiles has no 'apple'"]),
        (('"gpu_limit": 0.0', '"gpu_limits": 0.0'), ["training_config.py: profiles['cpu-only'] has no 'gpu_limits'; did you mean 'gpu_limit'?"]),
    ],
)  # fmt: skip
def test_an_unknown_key_names_the_nearest(change: tuple[str, str], expected: list[str], edited: Edited) -> None:
    assert problems_of(edited(change)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"epochs": 10', '"epochs": "ten"'), "training_params['epochs'] must be a whole number from 1 to 10000, not 'ten'"),
        (('"epochs": 10', '"epochs": 2.5'), "training_params['epochs'] must be a whole number from 1 to 10000, not 2.5"),
        (('"epochs": 10', '"epochs": True'), "training_params['epochs'] must be a whole number from 1 to 10000, not True"),
        (('"learning_rate": 5e-5,  #', '"learning_rate": 10**400,  #'), "ai_config['learning_rate'] must be a number above 0 up to 1"),
        (('"memory_threshold": 0.75', '"memory_threshold": 75'), "ai_config['memory_threshold'] must be a share from 0 to 1, or from 0% to 100%, not 75"),
        (('"method": "auto"', '"method": ["full"]'), "ai_config['method'] must be one of auto, full, lora, dora, not ['full']"),
        (('"time_budget": None', '"time_budget": "soon"'), "training_params['time_budget'] must be a duration such as 90s, 20m or 1h30m, not 'soon'"),
        (('"attack_success": 0.10', '"attack_success": 10'), "gate_config['attack_success'] must be a share from 0 to 1, or from 0% to 100%, not 10"),
        (('"least_tasks": 20', '"least_tasks": 0'), "gate_config['least_tasks'] must be a whole number from 1 to 100000, not 0"),
        (('"must_beat_baseline": []', '"must_beat_baseline": [1]'), "gate_config['must_beat_baseline'] must be names separated by commas, not [1]"),
        (('"layers": 6', '"layers": 0'), "custom_model['layers'] must be a whole number from 1 to 256, not 0"),
    ],
)  # fmt: skip
def test_a_wrong_value_says_what_is_expected(change: tuple[str, str], expected: str, edited: Edited) -> None:
    assert expected in problems_of(edited(change))[0]


def test_all_problems_of_the_file_come_at_once(edited: Edited) -> None:
    problems = problems_of(
        edited(('"epochs": 10', '"epochs": 0'), ('"seed": 42', '"seed": -1'), ('"layers": 6', '"layers": "six"'))
    )
    assert len(problems) == 3
