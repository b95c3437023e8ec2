"""A run directory as the other rooms would leave it: real files, small."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import pytest

from overseer_training.records import RunPaths

START: dict[str, Any] = {
    "kind": "start",
    "step": 0,
    "time": 0.0,
    "total_steps": 60,
    "examples": 960,
    "time_budget_seconds": None,
    "ram_limit": 0.75,
    "gpu_limit": None,
    "resumed_from": None,
}


def train_event(step: int, seconds_a_step: float = 2.0) -> dict[str, Any]:
    return {
        "kind": "train",
        "step": step,
        "time": step * seconds_a_step,
        "loss": 0.8 + 2.0 * math.exp(-step / 15),
        "learning_rate": 5e-5,
        "grad_norm": 1.1,
        "answer_tokens": 200,
        "tokens": 1056,
        "tokens_per_second": 292.0,
        "examples_per_second": 4.4,
        "ram_fraction": 0.52,
        "process_rss_bytes": 2_100_000_000,
        "device_memory_bytes": None,
        "micro_batch_size": 4,
    }


def validation_event(step: int) -> dict[str, Any]:
    scores = {"loss": 1.25, "token_accuracy": 0.742, "n_tokens": 4800, "n": 400}
    return {"kind": "validation", "step": step, "time": step * 2.0, **scores}


def notice_event(step: int, event: str, message: str) -> dict[str, Any]:
    return {"kind": "notice", "step": step, "time": step * 2.0, "event": event, "message": message}


def end_event(step: int, reason: str = "finished") -> dict[str, Any]:
    return {
        "kind": "end",
        "step": step,
        "time": step * 2.0,
        "reason": reason,
        "best_step": 40,
        "best_validation_loss": 1.25,
        "peak_rss_bytes": 2_200_000_000,
        "peak_ram_fraction": 0.61,
        "tokens": 63_360,
        "examples": 960,
    }


def whole_run() -> list[dict[str, Any]]:
    events = [START]
    for step in range(1, 61):
        events.append(train_event(step))
        if step % 20 == 0:
            events += [validation_event(step), notice_event(step, "checkpoint", f"saved step-{step:06d}")]
    return [*events, end_event(60)]


def score(value: float | None, low: float = 0.0, high: float = 0.0, **more: Any) -> dict[str, Any]:
    interval = None if value is None else [low, high]
    return {"n": 0 if value is None else 400, "value": value, "ci95": interval, "baseline": {}, "unscored": 0, **more}


EVALUATION = {
    "base": {"command_accuracy": score(0.02, 0.01, 0.04), "tool_mrr": score(0.41, 0.34, 0.48)},
    "trained": {
        "command_accuracy": score(0.613, 0.565, 0.66, unscored=3, reason="time limit"),
        "tool_mrr": score(0.22, 0.15, 0.29, baseline={"bm25": 0.44}),
        "context_accuracy": score(None, unscored=60, reason="no sandbox works on this machine"),
    },
    "machine": {"cpu": "Test CPU", "cores": 2, "ram_bytes": 16_000_000_000, "device": "cpu"},
}
ANSWERS = [
    {
        "id": "t1",
        "query": "find logs larger than 10 MB",
        "fixture": "web",
        "references": ["find /var/log -name '*.log' -size +10M"],
        "base": {"command": "ls -l", "equal": False, "reason": "output differs"},
        "trained": {"command": "find /var/log -name '*.log' -size +10M", "equal": True, "reason": ""},
    },
    {
        "id": "t2",
        "query": "who listens on port 8080",
        "fixture": "procs",
        "references": ["ss -ltnp 'sport = :8080'"],
        "base": {"command": "netstat", "equal": None, "reason": "not in the sandbox"},
        "trained": {"command": "lsof -i", "equal": None, "reason": "time limit"},
    },
]
PLAN = {
    "values": {
        "learning_rate": {"value": 5e-5, "origin": "profile --resource-efficient"},
        "ram_limit": {"value": 0.7, "origin": "flag --ram-limit"},
        "warmup_steps": {"value": 100, "origin": "default"},
    },
    "forecast": {"steps": 60, "seconds": 100.0, "peak_rss_bytes": 2_900_000_000},
    "warnings": ["--mac and --cpu-only were both given: --mac wins."],
}
MANIFEST = {
    "splits": {"train": {"rows": 960, "families": 48}},
    "sources": {"corpus": {"rows": 960, "licence": "Apache-2.0"}},
    "quarantined": {"duplicate of another row": 12},
}


@pytest.fixture
def run(tmp_path: pathlib.Path) -> RunPaths:
    """A finished run with every file that the report reads."""
    paths = RunPaths(tmp_path / "2026-11-14-smollm2")
    for folder in (paths.data, paths.model, paths.export):
        folder.mkdir(parents=True)
    paths.metrics.write_text("".join(json.dumps(event) + "\n" for event in whole_run()))
    paths.answers.write_text("".join(json.dumps(answer) + "\n" for answer in ANSWERS))
    paths.plan.write_text(json.dumps(PLAN))
    paths.evaluation.write_text(json.dumps(EVALUATION))
    paths.data_manifest.write_text(json.dumps(MANIFEST))
    paths.gate.write_text(
        json.dumps({"outcome": "passed", "checks": [{"name": "noise_kept", "verdict": "passed", "why": "91.0% stay right"}]})
    )
    file = {"path": "export/model.gguf", "bytes": 145_000_000, "sha256": "3f" * 32, "format": "GGUF"}
    manifest = {"files": [file], "parity": {"n": 50, "equal": 50, "value": 1.0}}
    (paths.export / "manifest.json").write_text(json.dumps(manifest))
    return paths


@pytest.fixture
def events() -> list[dict[str, Any]]:
    return whole_run()
