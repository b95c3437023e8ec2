"""Champion and challenger: a model takes another one's place only where the gate has nothing against it; going back is exact."""

from __future__ import annotations

import copy
import json
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from overseer_training.errors import DataError, ModelError, UsageError
from overseer_training.evaluation.checks import Check
from overseer_training.evaluation.gate import Gate, read_gate, require_none, write_gate
from overseer_training.learning.gate import blocking_promotion, decide, hash_model, promote, roll_back
from overseer_training.records import RunPaths
from overseer_training.run_folder import point_latest

CHAMPION: dict[str, dict[str, Any]] = {
    "command_accuracy": {"n": 400, "value": 0.5, "ci95": [0.45, 0.55]},
    "repair_accuracy": {"n": 100, "value": 0.7, "ci95": [0.6, 0.8]},
    "safety_accuracy": {"n": 50, "value": 0.9, "ci95": [0.8, 0.95]},
    "personal_accuracy": {"n": 40, "value": 0.2, "ci95": [0.1, 0.3]},
    "token_accuracy": {"n": 400, "value": 0.8, "ci95": [0.79, 0.81]},
    "answer_loss": {"n": 400, "value": 1.0, "ci95": [0.9, 1.1]},
}


def challenger(**values: float | None) -> dict[str, dict[str, Any]]:
    scores = copy.deepcopy(CHAMPION)
    scores["personal_accuracy"]["value"] = 0.6
    for name, value in values.items():
        scores[name]["value"] = value
    return scores


def test_better_for_the_owner_and_worse_at_nothing_is_promoted() -> None:
    decision = decide(CHAMPION, challenger(command_accuracy=0.46, token_accuracy=0.1, answer_loss=9.0))
    assert decision.is_promoted
    assert len(decision.reasons) == 4
    assert all(check.purpose == "promotion" for check in decision.checks), "they stand in the way of no export"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"command_accuracy": 0.44}, "failed: command accuracy: 44.0% (n = 400); the champion model has 50.0%, at worst 45.0%"),
        ({"repair_accuracy": 0.59}, "failed: repair accuracy"),
        ({"safety_accuracy": 0.899}, "failed: safety accuracy: 89.9% (n = 50); the champion model has 90.0%"),
        ({"personal_accuracy": 0.2}, "failed: your own requests: 20.0% (n = 40); the champion model has 20.0%"),
        ({"safety_accuracy": None}, "failed: safety accuracy: 0 scored tasks"),
        ({"personal_accuracy": None}, "unscored: your own requests"),
    ],
)  # fmt: skip
def test_anything_worse_keeps_the_champion(values: dict[str, float | None], reason: str) -> None:
    decision = decide(CHAMPION, challenger(**values))
    assert not decision.is_promoted
    assert [line.startswith(reason) for line in decision.reasons if not line.startswith("passed")] == [True]


@pytest.mark.parametrize("name", ["command_accuracy", "safety_accuracy", "personal_accuracy"])
def test_what_was_not_scored_on_the_same_tasks_does_not_count(name: str) -> None:
    missing, other = challenger(), challenger()
    del missing[name]
    other[name]["n"] += 1
    assert not decide(CHAMPION, missing).is_promoted
    assert not decide(CHAMPION, other).is_promoted
    assert not decide({}, challenger()).is_promoted


def test_few_personal_requests_say_nothing() -> None:
    before, after = copy.deepcopy(CHAMPION), challenger()
    before["personal_accuracy"]["n"] = after["personal_accuracy"]["n"] = 9
    assert not decide(before, after).is_promoted


FINE = Check("base/command_accuracy", "passed", "fine")
HARMFUL = Check("attack_success", "failed", "attacks that work: too many")
WORSE = Check("champion/repair_accuracy", "failed", "repair accuracy fell", purpose="promotion")


def judge(run: pathlib.Path, *checks: Check, champion: str = "") -> None:
    write_gate(RunPaths(run), Gate(checks or (FINE,), hash_model(run), champion))


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> pathlib.Path:
    """Three runs that passed, of which the first one is used."""
    for name in ("first", "second", "third"):
        model = tmp_path / name / "model"
        (model / "sub").mkdir(parents=True)
        (model / "model.safetensors").write_bytes(name.encode() * 1000)
        (model / "sub" / "tokenizer.json").write_text(name)
        judge(tmp_path / name)
    point_latest(tmp_path / "first")
    return tmp_path


def names(runs: pathlib.Path, run: str) -> list[str]:
    return [check.name for check in blocking_promotion(runs / run, runs / "latest")]


def test_a_run_that_passed_may_take_the_place(runs: pathlib.Path) -> None:
    assert names(runs, "second") == []


def test_a_run_that_failed_never_displaces_one_that_passed(runs: pathlib.Path) -> None:
    judge(runs / "second", FINE, HARMFUL)
    assert names(runs, "second") == ["attack_success"]
    with pytest.raises(ModelError, match="attack_success: attacks that work: too many"):
        require_none(blocking_promotion(runs / "second", runs / "latest"), runs / "second")


def test_a_run_that_failed_may_take_the_place_of_nothing_or_of_another_that_failed(runs: pathlib.Path) -> None:
    judge(runs / "second", FINE, HARMFUL)
    judge(runs / "first", FINE, HARMFUL)
    assert names(runs, "second") == []
    (runs / "latest").unlink()
    assert names(runs, "second") == []
    (runs / "latest").symlink_to("gone")
    assert names(runs, "second") == []


def test_of_a_run_from_before_the_gate_nothing_is_known(runs: pathlib.Path) -> None:
    judge(runs / "second", FINE, HARMFUL)
    (runs / "first" / "gate.json").write_text('{"promoted": true, "reasons": []}')
    assert names(runs, "second") == ["attack_success"]
    (runs / "first" / "gate.json").unlink()
    assert names(runs, "second") == ["attack_success"]


def test_nothing_is_spared_against_the_champion_that_it_was_compared_with(runs: pathlib.Path) -> None:
    judge(runs / "first", FINE, HARMFUL)
    judge(runs / "second", FINE, HARMFUL, WORSE, champion="first")
    assert names(runs, "second") == ["champion/repair_accuracy"]
    point_latest(runs / "third")
    with pytest.raises(UsageError, match=r"was compared with first, and .* is third now"):
        names(runs, "second")


def test_a_run_that_was_not_judged_or_changed_is_not_promoted(runs: pathlib.Path) -> None:
    (runs / "second" / "model" / "added.json").write_text("{}")
    assert names(runs, "second") == ["model"]
    (runs / "third" / "gate.json").unlink()
    with pytest.raises(UsageError, match="overseer evaluate"):
        names(runs, "third")
    with pytest.raises(UsageError, match="overseer evaluate"):
        promote(runs / "third", runs / "latest", point_latest)
    assert (runs / "latest").resolve() == runs / "first"


def test_promotion_and_rollback_leave_every_byte(runs: pathlib.Path) -> None:
    before = hash_model(runs / "first")
    for name in ("second", "third"):
        promote(runs / name, runs / "latest", point_latest)
    assert (runs / "latest").resolve() == runs / "third"
    replaced = read_gate(runs / "third").replaced
    assert replaced is not None and (replaced.run, replaced.model) == ("second", hash_model(runs / "second"))
    assert roll_back(runs / "latest", point_latest) == runs / "second"
    assert roll_back(runs / "latest", point_latest) == runs / "first"
    assert (runs / "latest").resolve() == runs / "first"
    assert hash_model(runs / "latest") == before
    with pytest.raises(UsageError, match="nothing to roll back"):
        roll_back(runs / "latest", point_latest)


def test_the_first_run_has_nothing_to_roll_back_to(runs: pathlib.Path) -> None:
    (runs / "latest").unlink()
    promote(runs / "second", runs / "latest", point_latest)
    assert (runs / "latest").resolve() == runs / "second" and read_gate(runs / "second").replaced is None
    with pytest.raises(UsageError, match="nothing to roll back"):
        roll_back(runs / "latest", point_latest)


def test_a_champion_that_changed_or_went_is_not_rolled_back_to(runs: pathlib.Path) -> None:
    promote(runs / "second", runs / "latest", point_latest)
    model = runs / "first" / "model" / "model.safetensors"
    content = model.read_bytes()
    model.write_bytes(content[:-1] + b"x")
    with pytest.raises(DataError, match="not what it was"):
        roll_back(runs / "latest", point_latest)
    (runs / "first").rename(runs / "moved")
    with pytest.raises(DataError, match="is gone"):
        roll_back(runs / "latest", point_latest)
    assert (runs / "latest").resolve() == runs / "second"


def test_a_run_without_a_model_is_not_promoted(runs: pathlib.Path) -> None:
    for path in sorted((runs / "second" / "model").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(UsageError, match="holds no trained model"):
        promote(runs / "second", runs / "latest", point_latest)
    assert (runs / "latest").resolve() == runs / "first"
    assert json.loads((runs / "second" / "gate.json").read_text())["replaced"] is None


SWITCHER = """
import pathlib, sys
from overseer_training.learning.gate import promote, roll_back
from overseer_training.run_folder import point_latest
runs = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while True:
    promote(runs / "second", runs / "latest", point_latest)
    roll_back(runs / "latest", point_latest)
"""


def test_killed_at_any_moment_there_is_one_whole_champion(runs: pathlib.Path) -> None:
    for delay in (0.01, 0.05, 0.1):
        process = subprocess.Popen([sys.executable, "-c", SWITCHER, str(runs)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert (runs / "latest").resolve() in (runs / "first", runs / "second")
        assert len(hash_model(runs / "latest")) == 2
        if (runs / "latest").resolve() == runs / "second":
            assert roll_back(runs / "latest", point_latest) == runs / "first"
