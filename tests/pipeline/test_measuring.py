"""What a run asks its models beside commands, and how much of it; which models it asks."""

from __future__ import annotations

import collections
import json
import pathlib
from typing import Any

import pytest

from overseer_training import measuring
from overseer_training.config.flags import build_parser
from overseer_training.evaluation.gate import read_gate
from overseer_training.evaluation.runner import Evaluation
from overseer_training.learning.gate import blocking_promotion
from overseer_training.measuring import make_suite, measure_run
from overseer_training.planning import make_plan
from overseer_training.records import RunPaths, Score
from overseer_training.run_folder import point_latest


def test_every_skill_is_asked_and_each_in_its_share() -> None:
    kinds = collections.Counter(task.kind for task in make_suite(80, seed=1, with_macos=False).tasks)
    assert set(kinds) == {"command", "dialogue", "repair", "tools", "safety", "prediction", "noise", "attack", "bias"}
    assert (kinds["command"], kinds["safety"], kinds["tools"], kinds["prediction"]) == (80, 20, 20, 20)
    assert kinds["bias"] == 4 * 8 and 20 < kinds["attack"] <= 40 and kinds["noise"] <= 4 * 8


def test_no_commands_ask_for_nothing_else_either() -> None:
    assert make_suite(0, seed=1, with_macos=False).tasks == ()


ACCURACIES = {"older": 0.25, "begun": 0.5, "challenger": 0.75}


@pytest.fixture
def runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Three runs with models, whose scores are known: what is asked of a model is tested above and in tests/evaluation."""
    for name in ACCURACIES:
        model = RunPaths(tmp_path / name).model
        model.mkdir(parents=True)
        (model / "overseer.json").write_text("{}")

    def measure(plan: object, folder: pathlib.Path, *rest: object, is_base: bool) -> Evaluation:
        assert not is_base
        return Evaluation({"command_accuracy": Score(100, ACCURACIES[folder.parent.name], None)}, ())

    monkeypatch.setattr(measuring, "_measure_model", measure)
    return tmp_path


def evaluate(runs: pathlib.Path, latest: str) -> dict[str, Any]:
    """eval.json of `challenger`, which training started from `begun`, while `latest` is the champion."""
    point_latest(runs / latest)
    begun, run = (RunPaths(runs / name) for name in ("begun", "challenger"))
    flags = build_parser().parse_args(["--device", "cpu", "--output-dir", str(runs), "--test-tasks", "0"])
    plan = make_plan(flags, for_run=False)[0].with_values({"start_from": (str(begun.root), "a test")})
    measure_run(plan, run, {"test": []}, begun.model, lambda text: None)
    return dict(json.loads(run.evaluation.read_text()))


@pytest.mark.parametrize("latest", ["begun", "older", "challenger"])
def test_a_run_is_compared_with_what_is_latest_when_it_is_measured(runs: pathlib.Path, latest: str) -> None:
    """After a rollback a run was compared with the model that it started from, for good, and could not be promoted."""
    document = evaluate(runs, latest)
    champion = "older" if latest == "older" else "begun"
    assert document["champion_run"] == champion
    assert document["champion"]["command_accuracy"]["value"] == ACCURACIES[champion]
    assert document["base"]["command_accuracy"]["value"] == ACCURACIES["begun"]
    assert read_gate(runs / "challenger").champion == champion
    blocking_promotion(runs / "challenger", runs / "latest")  # says that it was compared with another one, if it was


def test_a_latest_run_without_a_usable_model_is_no_champion(runs: pathlib.Path) -> None:
    (RunPaths(runs / "older").model / "overseer.json").unlink()
    document = evaluate(runs, "older")
    assert (document["champion_run"], document["champion"]) == ("begun", document["base"])
