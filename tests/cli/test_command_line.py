"""The commands as a person meets them: real processes, their exit codes, and one line where something is wrong."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "tokenizers", "numpy")
# Runs a script and tells on stderr which heavy modules it loaded.
PROBE = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: str, folder: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def train(*flags: str, folder: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    return run(str(ROOT / "main_training.py"), *flags, folder=folder)


def overseer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "overseer_training.cli", *arguments)


def assert_one_line(result: subprocess.CompletedProcess[str], part: str, exit_code: int = 2) -> None:
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: ") and result.stderr.endswith("\n")
    assert part in result.stderr
    assert result.returncode == exit_code


def test_help_answers_without_loading_torch() -> None:
    result = run("-c", PROBE, "main_training.py", "--help")
    assert result.returncode == 0
    assert "--resource-efficient" in result.stdout and "examples:" in result.stdout
    assert result.stderr == "loaded:\n"


def test_the_plan_is_json_without_loading_torch() -> None:
    result = run(
        "-c", PROBE, "main_training.py", "--plan", "--cpu-only", "--epochs", "2", "--base-model", "smollm2-135m"
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == "loaded:\n"
    document = json.loads(result.stdout)
    assert document["values"]["epochs"] == {"value": 2, "origin": "flag --epochs"}
    assert document["values"]["profile"]["value"] == "cpu-only"
    assert document["forecast"]["training_rows"] > 1000
    assert document["warnings"] == []


@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="the title is read as Linux shows it")
def test_a_key_is_out_of_sight_before_anything_else_is_done() -> None:
    """The configuration is read after the flags: what it prints is what `ps` would have shown by then."""
    said = "print(open('/proc/self/cmdline', 'rb').read().replace(b'\\0', b' '))"
    with tempfile.NamedTemporaryFile("w", suffix=".py") as configuration:
        configuration.write(f"{said}\n{(ROOT / 'training_config.py').read_text()}")
        configuration.flush()
        result = train("--plan", "--llm-api-key", "AIza-secret", "--config", configuration.name)
    assert result.returncode == 0 and "--llm-api-key <hidden>" in result.stdout
    assert "AIza-secret" not in result.stdout + result.stderr


def test_the_plan_for_a_mac_is_shown_anywhere_with_a_warning() -> None:
    result = train("--plan", "--mac", "--augmented-copies", "0")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["values"]["device"]["value"] == "mps"
    assert sys.platform == "darwin" or any("needs Apple Silicon" in warning for warning in document["warnings"])


def test_it_runs_from_any_folder(tmp_path: pathlib.Path) -> None:
    assert train("--help", folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--lerning-rate", "1e-4"], "unknown argument --lerning-rate; did you mean --learning-rate?"),
        (["--epochs"], "--epochs"),
        (["--epochs", "0", "--seed", "x", "--plan"], "2 problems: "),
        (["--llm-apikey", "AIza-secret", "--plan"], "did you mean --llm-api-key?"),
        (["--llm-hybrid", "maybe"], "--llm-hybrid"),
        (["--download-data", "--use-existing-data"], "contradict each other"),
        (["--config", "nowhere.py", "--plan"], "cannot read nowhere.py"),
        (["--resume-from-checkpoint", "nowhere"], "--resume-from-checkpoint nowhere: there is no such checkpoint"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(flags: list[str], part: str) -> None:
    result = train(*flags)
    assert_one_line(result, part)
    assert "secret" not in result.stderr


def test_existing_data_is_refused_where_there_is_none(tmp_path: pathlib.Path) -> None:
    result = train("--use-existing-data", "--output-dir", str(tmp_path), "--base-model", "smollm2-135m")
    assert_one_line(result, f"--use-existing-data: no run in {tmp_path} has processed data")


def test_the_latest_checkpoint_is_refused_where_there_is_none(tmp_path: pathlib.Path) -> None:
    result = train("--resume-from-checkpoint", "latest", "--output-dir", str(tmp_path))
    assert_one_line(result, f"no run in {tmp_path} has a checkpoint")


# They are about the run's folder: a limit of 100 % keeps the memory check out, no copies keep them short.
ROOMY = ("--ram-limit", "100%", "--base-model", "smollm2-135m", "--augmented-copies", "0", "--quiet")


@pytest.mark.parametrize("name", ["a/b", "..", "latest"])
def test_a_run_name_that_is_no_folder_name_is_refused(name: str, tmp_path: pathlib.Path) -> None:
    result = train("--run-name", name, "--output-dir", str(tmp_path), *ROOMY)
    assert_one_line(result, f"--run-name {name!r} cannot be a folder name")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_exists_is_never_overwritten(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").mkdir()
    result = train("--run-name", "mine", "--output-dir", str(tmp_path), *ROOMY)
    assert_one_line(result, f"{tmp_path / 'mine'} exists; choose another --run-name")
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")  # root may write anywhere, but not below a file
    result = train("--run-name", "r", "--output-dir", str(tmp_path / "file"), *ROOMY)
    assert_one_line(result, "--output-dir: ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "give a command"),
        (["aks"], "invalid choice: 'aks'"),
        (["predict", "--input", "x"], "--output"),
        (["predict", "--input", "x", "--output", "y", "--batch-size", "many"], "--batch-size"),
        (["export", "--to", "onnx"], "invalid choice: 'onnx'"),
        (["ask"], "request"),
        (["ask", "--plattform", "linux", "hi"], "did you mean --platform?"),
        (["report", "--run", "nowhere"], "there is no run at nowhere"),
        (["export", "--run", "nowhere"], "nowhere holds no trained model"),
        (["evaluate", "nowhere"], "nowhere is no finished run"),
        (["evaluate", "nowhere", "--suite", "mine"], "for one model say --model nowhere"),
        (["evaluate", "nowhere", "--answers", "a.jsonl"], "--answers is for --model"),
        (["evaluate", "--limit", "-1"], "--limit must be 0 or more"),
        (["learn", "promote", "nowhere"], "nowhere holds no trained model"),
        (["data"], "ACTION"),
        (["train", "--epochs", "0", "--plan"], "--epochs must be"),
    ],
)
def test_a_wrong_overseer_command_is_one_line_and_exit_code_2(arguments: list[str], part: str) -> None:
    assert_one_line(overseer(*arguments), part)


def test_overseer_help_answers_without_loading_torch() -> None:
    for arguments in (["--help"], ["ask", "--help"], ["data", "verify", "--help"]):
        result = run("-c", PROBE, "overseer_training/cli.py", *arguments)
        assert result.returncode == 0
        assert result.stdout.startswith("usage: overseer")
        assert result.stderr == "loaded:\n"


def test_a_broken_corpus_is_one_line_and_exit_code_3(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("- family: A\n- 3\n")
    assert_one_line(overseer("data", "verify", str(path)), "broken.yaml: entry 2: is not a mapping", exit_code=3)


def test_without_an_environment_one_line_says_what_to_run() -> None:
    """Was a traceback: the rooms import their libraries after the entry point's own check."""
    root = pathlib.Path(__file__).parents[2]
    hidden = "import sys; sys.modules['psutil'] = None; sys.argv = ['main_training.py', '--plan']; "
    hidden += f"sys.path.insert(0, {str(root)!r}); import runpy; runpy.run_path({str(root / 'main_training.py')!r}, run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: psutil is not installed for this Python; run: make train (it sets up .venv)"
    ]


@pytest.mark.parametrize(
    "arguments", [("policy", "show"), ("audit", "show"), ("learn", "status"), ("telemetry", "status")]
)
def test_commands_that_only_look_work_on_a_new_machine(tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    home = {
        name: str(tmp_path)
        for name in ("HOME", "OVERSEER_STATE", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")
    }
    result = subprocess.run(
        [sys.executable, "-m", "overseer_training.cli", *arguments],
        cwd=ROOT, env={**os.environ, **home}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_every_kind_of_export_can_be_asked_for() -> None:
    from overseer_training.commands.model import KINDS_OF_EXPORT
    from overseer_training.export.export_run import KINDS

    assert set(KINDS_OF_EXPORT) == set(KINDS)
