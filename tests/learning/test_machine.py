"""Questions about the owner's machine: as many as the share says, and never on disk in the clear."""

from __future__ import annotations

import json
import math
import pathlib

import pytest

from overseer_training.data.sealed import Sealer
from overseer_training.errors import DataError
from overseer_training.learning.machine import HELD_BACK, Machine, questions, read_held_back, write_held_back
from overseer_training.telemetry.examples import examples
from overseer_training.telemetry.own import SOURCE
from overseer_training.telemetry.store import METRICS
from overseer_training.telemetry.stored import Stored

START = 1_767_225_600.0


@pytest.fixture(scope="module")
def stored() -> Stored:
    levels = [50 + 20 * math.sin(n / 40) + 5 * math.sin(n * n) for n in range(48 * 12)]
    return Stored.from_rows(
        {"time": START + 300 * n, "resolution": "mean", **dict.fromkeys(METRICS, level)}
        for n, level in enumerate(levels)
    )


@pytest.fixture(autouse=True)
def keys(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "a long passphrase for this test")
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


def test_questions_are_the_share_of_the_owners_rows(stored: Stored) -> None:
    machine = questions(stored, rows=30, share=0.25, seed=1, platform="macos")
    assert len(machine.train) == 10 and {row.platform for row in machine.train} == {"macos"}
    assert len(machine.held_back) > 20
    assert questions(stored, rows=30, share=0, seed=1, platform="linux") == Machine()
    assert questions(stored, rows=0, share=0.25, seed=1, platform="linux") == Machine()
    assert questions(None, rows=30, share=0.25, seed=1, platform="linux") == Machine()


def test_what_is_held_back_is_read_again_and_encrypted(stored: Stored, tmp_path: pathlib.Path) -> None:
    assert read_held_back(tmp_path) == []
    tasks = questions(stored, rows=30, share=0.25, seed=1, platform="linux").held_back
    write_held_back(tmp_path, tasks)
    assert read_held_back(tmp_path) == list(tasks)
    content = (tmp_path / HELD_BACK).read_bytes()
    assert b"threshold" not in content and b"percent" not in content
    (tmp_path / HELD_BACK).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError):
        read_held_back(tmp_path)


def test_rows_about_this_machine_are_sealed_and_those_about_simulated_ones_are_not(stored: Stored) -> None:
    sealer = Sealer(lambda row: {"query": row.query, "source": row.source})
    (own, *_) = questions(stored, rows=30, share=0.25, seed=1, platform="linux").train
    (simulated,) = examples(1, 1, "train")
    assert own.source == SOURCE and json.loads(sealer.line_of(own)) == {"sealed": 0}
    assert json.loads(sealer.line_of(simulated))["query"] == simulated.query
