"""Continuous learning in the main job: what the owner did is learned, measured, kept secret on disk, and judged before promotion."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

FILL = """
import math, sys, time
from overseer_training.data.sealed import owners_keys
from overseer_training.learning.consent import write_consent
from overseer_training.learning.interaction import Interaction, learning_folder
from overseer_training.learning.store import Store
from overseer_training.telemetry import background, store as telemetry
write_consent(learning_folder(), "on")
things = "ledger invoice harbour bridge meadow lantern copper violin saddle pepper walnut anchor".split()
with Store(learning_folder(), owners_keys().data_key("interactions")) as store:
    store.add([
        Interaction(1.7e9 + n * 3600, "ask", f"marker-{thing} where is the {thing} file", f"fd {thing}", f"fd {thing}", 0, feedback=1)
        for n, thing in enumerate(things * 1)
    ])
    store.add([Interaction(1.7e9 + 50 * 3600, "shell", command="rm -r /srv/marker-cache", exit_code=0)])
folder = background.default_folder()
with telemetry.Store(folder / background.DATABASE) as store:
    for n in range(60 * 12):
        wave, hour = math.sin(n / 9) + math.sin(n / 50), n / 12
        values = {"cpu_percent": 40 + 9 * wave, "memory_percent": 50 + 5 * wave, "disk_percent": 81.4375 if hour < 50.01 else 70, "load_1m": 1 + wave / 9}
        store.add(telemetry.Sample(1.7e9 + n * 300, {**dict.fromkeys(telemetry.METRICS), **values}))
"""


@pytest.fixture
def owner(workplace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OVERSEER_PASSPHRASE": "a long passphrase for this test",
        "XDG_DATA_HOME": str(workplace.folder / "share"),
        "OVERSEER_STATE": str(workplace.folder / "state"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }.items():
        monkeypatch.setenv(name, value)
    root = str(pathlib.Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", FILL], env={**os.environ, "PYTHONPATH": root}, check=True)


def test_interactions_are_learned_and_never_lie_on_disk_in_the_clear(workplace: Any, owner: None) -> None:
    steps = ("--max-steps", "1", "--test-tasks", "4", "--no-export")
    code, output, errors = workplace.train_small(*steps, "--run-name", "first", "--continuous-learning")
    assert code == 0, output + errors
    assert "rows from your interactions" in output and "questions about this machine" in output
    run = workplace.runs / "first"
    evaluation = json.loads((run / "eval.json").read_text())
    assert evaluation["trained"]["personal_accuracy"]["n"] > 0
    asked = evaluation["trained"]["machine_threshold_brier"]
    assert asked["n"] + asked["unscored"] > 10
    sources = json.loads((run / "data" / "manifest.json").read_text())["training_rows_by_source"]
    assert sources["telemetry/this-machine"] > 0
    assert b"this-machine" not in (run / "data" / "train.jsonl").read_bytes()
    code, output, errors = workplace.train_small(*steps, "--run-name", "second", "--continuous-learning")
    assert code == 0, output + errors
    values = json.loads((workplace.runs / "second" / "plan.json").read_text())["values"]
    assert values["start_from"]["value"] == str(run.resolve())  # it goes on from the newest model, on few rows
    evaluation = json.loads((workplace.runs / "second" / "eval.json").read_text())
    assert evaluation["base"] == evaluation["champion"]
    counts = json.loads((workplace.runs / "second" / "data" / "manifest.json").read_text())["splits"]
    assert 0 < counts["train"]["rows"] < 100 and counts["validation"]["rows"] < counts["train"]["rows"]
    gate = json.loads((workplace.runs / "second" / "gate.json").read_text())
    assert gate["champion"] == "first" and gate["replaced"] is None  # one step makes nothing better
    assert any(check["name"] == "champion/personal_accuracy" for check in gate["checks"])
    assert (workplace.runs / "latest").resolve().name == "first" and "not promoted" in output
    for path in workplace.folder.rglob("*"):
        assert not path.is_file() or b"marker-" not in path.read_bytes(), path
        assert "runs" not in path.parts or not path.is_file() or b"81.4375" not in path.read_bytes(), path
    assert json.loads((run / "model" / "signature.json").read_text())["files"].keys() >= {"model.safetensors"}
    weights = run / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole + b" ")
    code, _, errors = workplace.train_small(*steps, "--continuous-learning")
    assert code == 4 and errors.endswith(
        f"error: the model in {run / 'model'} is not opened: model.safetensors: it was changed after the folder was "
        "signed; put back a copy of it, or delete the folder and make it again\n"
    )
    weights.write_bytes(whole)
    shown = workplace.overseer("learn", "list")
    assert shown.returncode == 0 and "marker-walnut" in shown.stdout
    better = workplace.overseer("learn", "list", "--improvements")
    assert better.returncode == 0 and "disk 81.4 % -> 70.0 %" in better.stdout, better.stdout + better.stderr
    assert better.stdout.strip().endswith("rm -r /srv/marker-cache")
    assert workplace.overseer("learn", "forget", "--pattern", "*marker-cache*").stdout == "1 forgotten\n"
    assert "no command is known" in workplace.overseer("learn", "list", "--improvements").stdout


def test_without_a_key_nothing_is_kept_in_the_clear(
    workplace: Any, owner: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OVERSEER_PASSPHRASE")
    code, _, errors = workplace.train_small("--max-steps", "1", "--continuous-learning")
    assert code == 2
    assert len(errors.strip().splitlines()) == 1 and "OVERSEER_PASSPHRASE" in errors
