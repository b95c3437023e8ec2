"""The main job under torchrun: a process that dies, torchrun that starts all again, and two hosts that meet by rendezvous."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from overseer_training.run_folder import folder_of_launch, mark_launch

from .conftest import ROOT, SMALL

STEPS = 5
PLACE = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def start_together(workplace: Any, launcher: list[str], *arguments: str) -> subprocess.Popen[str]:
    """torchrun with the small job."""
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, str(ROOT / "main_training.py"), *SMALL]
    command += ["--config", str(workplace.folder / "config.py"), "--output-dir", str(workplace.runs)]
    command += ["--max-steps", str(STEPS), "--save-steps", "1", "--eval-steps", "3"]
    command += ["--test-tasks", "0", "--no-export", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OVERSEER_STATE": str(workplace.folder / "state")}
    return subprocess.Popen(
        command, cwd=workplace.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def steps_in(run: pathlib.Path) -> list[int]:
    """Steps in the metrics of a run, as they were written."""
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return [json.loads(line)["step"] for line in lines if '"kind": "train"' in line]


def kill_second_process(launcher: subprocess.Popen[str], run: pathlib.Path) -> None:
    """kill -9 the process of rank 1 below `launcher`, once two steps of `run` are made."""
    deadline = time.monotonic() + 400
    while len(steps_in(run)) < 2:
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in psutil.Process(launcher.pid).children():
        if process.environ().get("RANK") == "1":
            process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def recovered(workplace: Any) -> tuple[pathlib.Path, str]:
    """(run, output) of two processes, one of which was killed; torchrun started them again by itself."""
    launcher = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    process = start_together(workplace, launcher, "--run-name", "together")
    kill_second_process(process, workplace.runs / "together")
    code, output, errors = workplace.finish(process)
    assert code == 0, output + errors
    return workplace.runs / "together", output


def test_torchrun_goes_on_by_itself_after_a_kill(recovered: tuple[pathlib.Path, str]) -> None:
    run, output = recovered
    assert {path.parent.resolve().name for path in run.parent.glob("*/plan.json")} == {"together"}
    assert steps_in(run) == list(range(1, STEPS + 1))
    starts = [line for line in (run / "metrics.jsonl").read_text().splitlines() if '"kind": "start"' in line]
    assert [json.loads(line)["resumed_from"] is not None for line in starts] == [False, True]
    assert output.count("What now") == 1


def test_the_plan_of_a_run_has_its_number_of_processes(recovered: tuple[pathlib.Path, str]) -> None:
    values = json.loads((recovered[0] / "plan.json").read_text())["values"]
    assert values["world_size"] == {"value": 2, "origin": "torchrun: 2 on this host"}


def test_two_hosts_end_when_one_loses_its_process_and_one_host_goes_on(
    recovered: tuple[pathlib.Path, str], workplace: Any
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    meeting += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    run = workplace.runs / "hosts"
    hosts = [start_together(workplace, meeting, "--run-name", "hosts", "--use-existing-data") for _ in range(2)]
    for host in hosts:
        kill_second_process(host, run)
    ends = [
        workplace.finish(host) for host in hosts
    ]  # gives up after 10 minutes; a connection itself would wait for 30
    assert all(code != 0 for code, _, _ in ends)
    lines = [line for _, _, errors in ends for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "--resume-from-checkpoint latest" in lines[0]
    done = len(steps_in(run))
    code, output, errors = workplace.finish(workplace.start("--resume-from-checkpoint", str(run), "--no-export"))
    assert code == 0, output + errors
    assert 2 <= done < STEPS
    assert steps_in(run) == list(range(1, STEPS + 1))


def test_the_first_process_alone_prints_the_plan(workplace: Any) -> None:
    plans = []
    for rank in ("0", "1"):
        environment = {**os.environ, **PLACE, "RANK": rank, "LOCAL_RANK": rank}
        command = [sys.executable, str(ROOT / "main_training.py"), "--plan", "--cpu-only"]
        result = subprocess.run(command, env=environment, cwd=workplace.folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        plans.append(result.stdout)
    plan = json.loads(plans[0])
    assert plan["values"]["world_size"]["value"] == 2
    forecast = plan["forecast"]
    assert forecast["peak_memory_gib_of_2_processes"] == pytest.approx(2 * forecast["peak_memory_gib"], abs=0.02)
    assert plans[1] == ""


def test_what_processes_cannot_share_is_refused_in_one_line(workplace: Any) -> None:
    environment = {**os.environ, **PLACE, "RANK": "0", "LOCAL_RANK": "0"}
    command = [sys.executable, str(ROOT / "main_training.py"), "--plan", "--cpu-only"]
    few = ["--micro-batch-size", "1", "--gradient-accumulation-steps", "1"]
    result = subprocess.run([*command, *few], env=environment, cwd=workplace.folder, capture_output=True, text=True)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "2 processes" in result.stderr


def test_a_launch_finds_its_own_run_only(tmp_path: pathlib.Path) -> None:
    for name, identity in (("a", "host 1 0.5"), ("b", "host 2 0.5"), ("c", "")):
        (tmp_path / name).mkdir()
        mark_launch(tmp_path / name, identity)
    (tmp_path / "latest").symlink_to("a")
    assert folder_of_launch(tmp_path, "host 1 0.5") == tmp_path / "a"
    assert folder_of_launch(tmp_path, "host 3 0.5") is None
    assert folder_of_launch(tmp_path, "") is None
