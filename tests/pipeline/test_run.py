"""The main job from the command line to the report, with a model small enough to train in seconds."""

from __future__ import annotations

import json
import pathlib
import signal
import time
from typing import Any

import pytest

from overseer_training.evaluation.gate import read_gate


@pytest.fixture(scope="module")
def run(workplace: Any) -> pathlib.Path:
    """A run that was interrupted after its first step and then resumed to its end."""
    steps = ["--max-steps", "3", "--test-tasks", "8", "--run-name", "small", "--eval-steps", "2", "--save-steps", "1"]
    process = workplace.start_small(*steps)
    metrics = workplace.folder / "runs" / "small" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and '"kind": "train"' in metrics.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, output, errors = workplace.finish(process)
    assert code == 130, output + errors
    assert "--resume-from-checkpoint" in output
    code, output, errors = workplace.finish(workplace.start("--resume-from-checkpoint", "latest"))
    assert code == 0, output + errors
    assert "What now" in output and "This model did not pass its gate" in output  # eight tasks prove nothing
    assert "small/model is not signed: that takes a keyring that is unlocked, or OVERSEER_PASSPHRASE" in output
    return workplace.folder / "runs" / "small"


def test_everything_is_in_the_run_directory(run: pathlib.Path) -> None:
    for name in (
        "plan.json",
        "data/manifest.json",
        "metrics.jsonl",
        "model/overseer.json",
        "eval.json",
        "eval.txt",
        "gate.json",
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


def test_the_gate_saw_the_export_and_the_export_says_what_the_gate_found(run: pathlib.Path) -> None:
    gate = read_gate(run)
    assert gate.outcome != "passed" and {"attack_success", "export_parity"} <= {check.name for check in gate.checks}
    card = (run / "export" / "README.md").read_text()
    assert "did not pass the gate" in card and all(check.why in card for check in gate.blocking("export"))
    assert "Answers kept by the export" in (run / "eval.txt").read_text()


def test_only_a_reason_that_is_kept_lets_a_model_out_that_did_not_pass(run: pathlib.Path, workplace: Any) -> None:
    reason = "the owner tries it in a virtual machine"
    export = ("export", "--run", str(run), "--to", "safetensors")
    refused = workplace.overseer(*export)
    assert refused.returncode == 4 and len(refused.stderr.splitlines()) == 1
    assert "did not pass the gate: attack_success: " in refused.stderr and not (run / "export" / "safetensors").exists()
    assert workplace.overseer(*export, "--override", "because").returncode == 2
    allowed = workplace.overseer(*export, "--override", reason)
    assert allowed.returncode == 0, allowed.stderr
    assert "did not pass its gate" in allowed.stdout and (run / "export" / "safetensors" / "model.safetensors").exists()
    entries = [json.loads(line) for line in (workplace.folder / "state" / "audit.jsonl").read_text().splitlines()]
    [entry] = [entry for entry in entries if entry.get("action") == "override"]
    assert (entry["event"], entry["run"], entry["reason"]) == ("export", "small", reason)
    assert "attack_success" in entry["decision"]


def test_a_run_is_measured_and_judged_again(run: pathlib.Path, workplace: Any) -> None:
    before = json.loads((run / "eval.json").read_text())
    result = workplace.overseer("evaluate", str(run), "--limit", "8")
    assert result.returncode == 0, result.stderr
    assert result.stdout == (run / "eval.txt").read_text() and "Command accuracy" in result.stdout
    after = json.loads((run / "eval.json").read_text())
    speed = "answers_per_second"
    for name in ("base", "trained"):
        assert before[name].pop(speed) and after[name].pop(speed)
        assert before[name] == after[name], "the same tasks give the same scores, and the parity stays"
    assert "gate undecided" in result.stderr or "gate failed" in result.stderr


def test_the_profile_reached_the_trainer(run: pathlib.Path) -> None:
    values = json.loads((run / "plan.json").read_text())["values"]
    assert values["micro_batch_size"] == {"value": 1, "origin": "profile --cpu-only"}
    train = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
    assert all(
        abs(event["examples_per_second"] / event["tokens_per_second"] * event["tokens"] - 64) < 1e-6 for event in train
    )


def test_ask_prints_one_command_and_runs_nothing(run: pathlib.Path, workplace: Any) -> None:
    before = sorted(workplace.folder.iterdir())
    result = workplace.overseer("ask", "--model", str(run), "list the files here")
    assert result.returncode in (0, 1)  # so small a model may have no answer
    assert len(result.stdout.splitlines()) <= 1
    assert sorted(workplace.folder.iterdir()) == before


def test_predict_goes_on_where_it_was_cut_off(run: pathlib.Path, workplace: Any) -> None:
    requests, answers = workplace.folder / "requests.jsonl", workplace.folder / "answers.jsonl"
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
    assert workplace.overseer(*arguments).returncode == 0
    whole = answers.read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in whole) == [0, 1, 2, 3]
    answers.write_text("\n".join(whole[:2]) + "\n" + whole[2][:10])  # cut off in the middle of a line
    assert workplace.overseer(*arguments).returncode == 0
    assert sorted(answers.read_text().splitlines()) == sorted(whole)


def test_a_suite_of_ones_own_is_scored(run: pathlib.Path, workplace: Any) -> None:
    suite = workplace.folder / "suite"
    (suite / "fixtures").mkdir(parents=True)
    (suite / "fixtures" / "web.sh").write_text("mkdir logs; echo hi > logs/a.log\n")
    task = {"id": "t1", "kind": "command", "fixture": "web", "query": "list logs", "references": ["ls logs"]}
    (suite / "tasks.jsonl").write_text(json.dumps(task) + "\n")
    result = workplace.overseer("evaluate", "--model", str(run), "--suite", str(suite), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["command_accuracy"]["n"] == 1


def test_resuming_with_other_numbers_is_refused(run: pathlib.Path, workplace: Any) -> None:
    code, _, errors = workplace.finish(
        workplace.start("--resume-from-checkpoint", str(run), "--learning-rate", "0.1", "--epochs", "3")
    )
    assert code == 2
    assert "--learning-rate" in errors
    assert "--epochs" in errors
    assert len(errors.splitlines()) == 1


def test_a_run_directory_in_use_is_not_entered(run: pathlib.Path, workplace: Any) -> None:
    import fcntl

    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, errors = workplace.finish(workplace.start("--resume-from-checkpoint", str(run)))
    assert code == 2
    assert "another process" in errors


def test_a_second_run_with_the_same_settings_takes_its_rows_from_the_first(run: pathlib.Path, workplace: Any) -> None:
    steps = ["--max-steps", "1", "--test-tasks", "0", "--run-name", "warm", "--no-export"]
    code, output, errors = workplace.finish(workplace.start_small(*steps))
    assert code == 0, output + errors
    assert "kept from an earlier run" in output
    warm = workplace.runs / "warm" / "data"
    for name in ("train.jsonl", "test.jsonl", "manifest.json", "quarantine.jsonl"):
        assert (warm / name).read_bytes() == (run / "data" / name).read_bytes()
    assert not (warm / "tokens").exists()  # once training has ended
    kept = list((workplace.folder / "cache" / "rows").iterdir())
    assert len(kept) == 1 and (kept[0] / "tokens" / "ids").stat().st_size > 0


def test_a_passphrase_that_will_not_do_is_said_before_any_work(
    workplace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "short")
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path))
    code, output, errors = workplace.train_small("--max-steps", "1", "--run-name", "unsigned")
    assert code == 2 and "the passphrase is too short" in errors and len(errors.splitlines()) == 1
    assert "[1/" not in output


def test_existing_data_is_used_again(run: pathlib.Path, workplace: Any) -> None:
    steps = ["--max-steps", "1", "--test-tasks", "0", "--run-name", "again", "--no-export", "--use-existing-data"]
    code, output, errors = workplace.finish(workplace.start_small(*steps))
    assert code == 0, output + errors
    for name in ("train.jsonl", "test.jsonl"):
        assert (workplace.folder / "runs/again/data" / name).read_bytes() == (run / "data" / name).read_bytes()
    entries = [json.loads(line) for line in (workplace.folder / "state" / "audit.jsonl").read_text().splitlines()]
    assert any(entry["event"] == "data-access" and entry.get("run") == "again" for entry in entries)
