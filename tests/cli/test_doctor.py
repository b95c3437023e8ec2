"""What the doctor finds, what it advises, and that its proof of resuming can fail."""

from __future__ import annotations

import collections
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

from overseer_training import cli
from overseer_training.commands import doctor
from overseer_training.config import machine
from overseer_training.errors import SandboxError
from overseer_training.evaluation import sandbox
from overseer_training.training.checkpoint_paths import list_checkpoints
from overseer_training.training.resume_proof import KILLED_AFTER, LOG, SAVE_EVERY, _differences, prove_resume

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ["machine", "python", "packages", "sandbox", "memory", "disk", "model"]


def test_one_screen_with_a_verdict_on_each_part() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "overseer_training.cli", "doctor"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode in (0, 1) and result.stderr == ""
    verdicts = [line.split()[:2] for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [name for name, _ in verdicts] == NAMES
    assert {verdict for _, verdict in verdicts} <= {"ok", "NOT"}
    assert len(result.stdout.splitlines()) <= 24


def run_doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """(exit code, name -> what was said of it)."""
    code = cli.main(["doctor", *arguments])
    said: dict[str, str] = {}
    for line in capsys.readouterr().out.splitlines():
        name = list(said)[-1] if line.startswith(" ") else line.split()[0]
        said[name] = f"{said.get(name, '')}{line}\n"
    return code, said


def test_what_is_wrong_comes_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    version = importlib.metadata.version

    def other_versions(name: str) -> str:
        if name == "peft":
            raise importlib.metadata.PackageNotFoundError
        return "0.1" if name == "torch" else version(name)

    def no_sandbox() -> Any:
        raise SandboxError("bubblewrap is not installed; sudo apt install bubblewrap")

    monkeypatch.setattr(importlib.metadata, "version", other_versions)
    monkeypatch.setattr(sandbox, "find_sandbox", no_sandbox)
    monkeypatch.setattr(machine, "memory_used_bytes", machine.memory_limit_bytes)
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (4, 0))
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 0))
    code, said = run_doctor(capsys, "--output-dir", str(tmp_path / "not" / "there"))
    assert code == 1
    assert [name for name, text in said.items() if " NOT " in text] == NAMES[1:-1]
    assert "missing: peft; other versions: torch 0.1 (not" in said["packages"] and "make setup" in said["packages"]
    assert "sudo apt install bubblewrap" in said["sandbox"]
    assert "close programs (most is used by" in said["memory"]
    assert f"free at {tmp_path}" in said["disk"] and "--output-dir" in said["disk"]


def test_a_configuration_with_a_mistake_is_told_where_it_matters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise SandboxError("training_config.py: epochs must be a whole number")

    monkeypatch.setattr(doctor, "_plan", broken)
    code, said = run_doctor(capsys)
    assert code == 1 and "epochs must be a whole number" in said["memory"] and " ok " in said["machine"]


def test_resuming_is_proved_and_a_difference_would_be_told(tmp_path: pathlib.Path) -> None:
    proof = prove_resume(tmp_path)
    assert proof.differences == ()
    assert proof.killed_after >= KILLED_AFTER
    assert proof.resumed_from == proof.killed_after // SAVE_EVERY * SAVE_EVERY
    lines = (tmp_path / "cut" / LOG).read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    assert steps.count(KILLED_AFTER) == 2  # it was made again by another process

    last = list_checkpoints(tmp_path / "cut")[0]
    for name, expected in (("weights.safetensors", "weights"), ("moments.safetensors", "optimizer")):
        content = (last / name).read_bytes()
        (last / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert _differences(tmp_path / "whole", tmp_path / "cut") == [expected]
        (last / name).write_bytes(content)
    for name, expected in (("loss", "losses"), ("inputs", "order of rows")):
        changed = json.dumps({**json.loads(lines[-1]), name: 0})
        (tmp_path / "cut" / LOG).write_text("\n".join([*lines[:-1], changed]))
        assert _differences(tmp_path / "whole", tmp_path / "cut") == [expected]
