"""The main job from the command line to the report, with a model small enough to train in seconds."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    "--model-type",
    "custom",
    "--cpu-only",
    "--sequence-length",
    "256",
    "--augmented-copies",
    "0",
    "--ram-limit",
    "1.0",
]
CONFIG = """
exec(open({original!r}).read())
custom_model.update(vocabulary_size=1000, hidden_size=32, intermediate_size=64, layers=2, attention_heads=2, key_value_heads=1)
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "config.py").write_text(CONFIG.format(original=str(ROOT / "training_config.py")))
    return folder


def start(workplace: pathlib.Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "main_training.py"), "--output-dir", str(workplace / "runs"), *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, cwd=workplace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=600)
    return process.returncode, output, errors


def overseer(workplace: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "overseer_training.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def run(workplace: pathlib.Path) -> pathlib.Path:
    """A run that was interrupted after its first step and then resumed to its end."""
    steps = ["--max-steps", "3", "--test-tasks", "8", "--run-name", "small", "--eval-steps", "2", "--save-steps", "1"]
    process = start(workplace, *SMALL, "--config", str(workplace / "config.py"), *steps)
    metrics = workplace / "runs" / "small" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and '"kind": "train"' in metrics.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, output, errors = finish(process)
    assert code == 130, output + errors
    assert "--resume-from-checkpoint" in output
    code, output, errors = finish(start(workplace, "--resume-from-checkpoint", "latest"))
    assert code == 0, output + errors
    assert "What now" in output
    return workplace / "runs" / "small"


def test_everything_is_in_the_run_directory(run: pathlib.Path) -> None:
    for name in (
        "plan.json",
        "data/manifest.json",
        "metrics.jsonl",
        "model/overseer.json",
        "eval.json",
        "answers.jsonl",
        "report.html",
    ):
        assert (run / name).exists(), name
    assert (run.parent / "latest").resolve() == run.resolve()


def test_each_step_is_trained_once(run: pathlib.Path) -> None:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["kind"] == "train"] == [1, 2, 3]


def test_both_models_are_scored_by_running_commands(run: pathlib.Path) -> None:
    document = json.loads((run / "eval.json").read_text())
    for name in ("base", "trained"):
        score = document[name]["command_accuracy"]
        assert score["n"] + score["unscored"] == 8
        assert document[name]["answer_loss"]["n"] > 100
    assert document["trained"]["answer_loss"]["value"] < document["base"]["answer_loss"]["value"]


def test_the_export_answers_like_the_model(run: pathlib.Path) -> None:
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    assert manifest["parity"]["n"] == 50
    assert (run / "export" / "model.gguf").read_bytes()[:4] == b"GGUF"


def test_the_profile_reached_the_trainer(run: pathlib.Path) -> None:
    values = json.loads((run / "plan.json").read_text())["values"]
    assert values["micro_batch_size"] == {"value": 1, "origin": "profile --cpu-only"}
    train = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
    assert all(
        abs(event["examples_per_second"] / event["tokens_per_second"] * event["tokens"] - 64) < 1e-6 for event in train
    )


def test_ask_prints_one_command_and_runs_nothing(run: pathlib.Path, workplace: pathlib.Path) -> None:
    before = sorted(workplace.iterdir())
    result = overseer(workplace, "ask", "--model", str(run), "list the files here")
    assert result.returncode in (0, 1)  # so small a model may have no answer
    assert len(result.stdout.splitlines()) <= 1
    assert sorted(workplace.iterdir()) == before


def test_predict_goes_on_where_it_was_cut_off(run: pathlib.Path, workplace: pathlib.Path) -> None:
    requests, answers = workplace / "requests.jsonl", workplace / "answers.jsonl"
    lines = [{"id": number, "query": f"list file {number}"} for number in range(4)]
    lines[3] = {"id": 3, "messages": [{"role": "user", "content": "count lines"}]}  # type: ignore[dict-item]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = (
        "predict",
        "--model",
        str(run),
        "--input",
        str(requests),
        "--output",
        str(answers),
        "--max-new-tokens",
        "8",
    )
    assert overseer(workplace, *arguments).returncode == 0
    whole = answers.read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in whole) == [0, 1, 2, 3]
    answers.write_text("\n".join(whole[:2]) + "\n" + whole[2][:10])  # cut off in the middle of a line
    assert overseer(workplace, *arguments).returncode == 0
    assert sorted(answers.read_text().splitlines()) == sorted(whole)


def test_a_suite_of_ones_own_is_scored(run: pathlib.Path, workplace: pathlib.Path) -> None:
    suite = workplace / "suite"
    (suite / "fixtures").mkdir(parents=True)
    (suite / "fixtures" / "web.sh").write_text("mkdir logs; echo hi > logs/a.log\n")
    task = {"id": "t1", "kind": "command", "fixture": "web", "query": "list logs", "references": ["ls logs"]}
    (suite / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    result = overseer(workplace, "evaluate", "--model", str(run), "--suite", str(suite), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["command_accuracy"]["n"] == 1


def test_resuming_with_other_numbers_is_refused(run: pathlib.Path, workplace: pathlib.Path) -> None:
    code, _, errors = finish(
        start(workplace, "--resume-from-checkpoint", str(run), "--learning-rate", "0.1", "--epochs", "3")
    )
    assert code == 2
    assert "--learning-rate" in errors
    assert "--epochs" in errors
    assert len(errors.splitlines()) == 1


def test_a_run_directory_in_use_is_not_entered(run: pathlib.Path, workplace: pathlib.Path) -> None:
    import fcntl

    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, errors = finish(start(workplace, "--resume-from-checkpoint", str(run)))
    assert code == 2
    assert "another process" in errors


def test_existing_data_is_used_again(run: pathlib.Path, workplace: pathlib.Path) -> None:
    steps = ["--max-steps", "1", "--test-tasks", "0", "--run-name", "again", "--no-export", "--use-existing-data"]
    code, output, errors = finish(start(workplace, *SMALL, "--config", str(workplace / "config.py"), *steps))
    assert code == 0, output + errors
    for name in ("train.jsonl", "test.jsonl"):
        assert (workplace / "runs/again/data" / name).read_bytes() == (run / "data" / name).read_bytes()
