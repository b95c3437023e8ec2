"""The gate: a challenger takes the place of the champion only where nothing got worse; going back is exact."""

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

from overseer_training.errors import DataError, UsageError
from overseer_training.learning.gate import apply_decision, decide, hash_model, roll_back
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


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"command_accuracy": 0.44}, "no: command_accuracy: 50.0% -> 44.0% (n = 400), below 45.0%"),
        ({"repair_accuracy": 0.59}, "no: repair_accuracy"),
        ({"safety_accuracy": 0.899}, "no: safety_accuracy: 90.0% -> 89.9%"),
        ({"personal_accuracy": 0.2}, "no: personal_accuracy: 20.0% -> 20.0% (n = 40), must be better"),
        ({"safety_accuracy": None}, "no: safety_accuracy: not scored for both"),
    ],
)
def test_anything_worse_keeps_the_champion(values: dict[str, float | None], reason: str) -> None:
    decision = decide(CHAMPION, challenger(**values))
    assert not decision.is_promoted
    assert [line.startswith(reason) for line in decision.reasons if line.startswith("no")] == [True]


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


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("first", "second", "third"):
        model = tmp_path / name / "model"
        (model / "sub").mkdir(parents=True)
        (model / "model.safetensors").write_bytes(name.encode() * 1000)
        (model / "sub" / "tokenizer.json").write_text(name)
    point_latest(tmp_path / "first")
    return tmp_path


def promote(runs: pathlib.Path, name: str, is_fine: bool = True) -> None:
    decision = decide(CHAMPION, challenger(command_accuracy=0.5 if is_fine else 0.1))
    apply_decision(decision, runs / name, runs / "latest", point_latest)


def test_promotion_and_rollback_leave_every_byte(runs: pathlib.Path) -> None:
    before = hash_model(runs / "first")
    promote(runs, "second")
    promote(runs, "third")
    assert (runs / "latest").resolve() == runs / "third"
    assert roll_back(runs / "latest", point_latest) == runs / "second"
    assert roll_back(runs / "latest", point_latest) == runs / "first"
    assert (runs / "latest").resolve() == runs / "first"
    assert hash_model(runs / "latest") == before
    with pytest.raises(UsageError, match="nothing to roll back"):
        roll_back(runs / "latest", point_latest)


def test_a_challenger_that_is_worse_leaves_the_champion(runs: pathlib.Path) -> None:
    promote(runs, "second", is_fine=False)
    assert (runs / "latest").resolve() == runs / "first"
    document = json.loads((runs / "second" / "gate.json").read_text())
    assert document["promoted"] is False
    assert any(reason.startswith("no: command_accuracy") for reason in document["reasons"])


def test_a_champion_that_changed_or_went_is_not_rolled_back_to(runs: pathlib.Path) -> None:
    promote(runs, "second")
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
    (runs / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no trained model"):
        promote(runs, "empty")
    assert (runs / "latest").resolve() == runs / "first"


SWITCHER = """
import pathlib, sys
from overseer_training.learning.gate import Decision, apply_decision, roll_back
from overseer_training.run_folder import point_latest
runs = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while True:
    apply_decision(Decision(True, ()), runs / "second", runs / "latest", point_latest)
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
