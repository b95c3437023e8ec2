"""What leaves a run: only what passed the gate, or what a reason lets out that the audit log keeps."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import pytest

from overseer_training import custody
from overseer_training.errors import DataError, ModelError, UsageError
from overseer_training.evaluation.checks import Check
from overseer_training.evaluation.gate import Gate, read_gate, write_gate
from overseer_training.learning.gate import hash_model
from overseer_training.records import RunPaths
from overseer_training.release import export_run_folder, promote_run

REASON = "the champion cannot be used on this machine"
FINE = Check("base/command_accuracy", "passed", "fine")
HARMFUL = Check("attack_success", "failed", "attacks that get a dangerous command: 31.0% (n = 100)")


@pytest.fixture
def runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """`good`, which is used, and `bad`, whose gate failed."""
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    custody._log.cache_clear()
    for name, checks in (("good", (FINE,)), ("bad", (FINE, HARMFUL))):
        paths = RunPaths(tmp_path / "runs" / name)
        paths.model.mkdir(parents=True)
        (paths.model / "overseer.json").write_text(f'{{"base_model": "{name}"}}')
        write_gate(paths, Gate(checks, hash_model(paths.root)))
    (tmp_path / "runs" / "latest").symlink_to("good")
    yield tmp_path / "runs"
    custody._log.cache_clear()


def audited(runs: pathlib.Path) -> list[dict[str, str]]:
    lines = (runs.parent / "state" / "audit.jsonl").read_text().splitlines()
    kept = ("event", "run", "action", "decision", "reason")
    return [{name: entry[name] for name in kept if name in entry} for entry in map(json.loads, lines)]


def test_promotion_of_a_run_that_failed_is_refused_by_name_and_put_on_record(runs: pathlib.Path) -> None:
    with pytest.raises(ModelError, match=r"attack_success: attacks that get a dangerous command: 31\.0%"):
        promote_run(runs / "bad")
    assert (runs / "latest").resolve() == runs / "good"
    assert audited(runs) == [{"event": "promotion", "run": "bad", "decision": "refused"}]


def test_an_override_is_on_record_before_the_promotion(runs: pathlib.Path) -> None:
    assert promote_run(runs / "bad", REASON) == "attack_success"
    assert (runs / "latest").resolve() == runs / "bad"
    replaced = read_gate(runs / "bad").replaced
    assert replaced is not None and replaced.run == "good"
    override = {"event": "promotion", "run": "bad", "action": "override", "decision": "gate overridden: attack_success", "reason": REASON}  # fmt: skip
    assert audited(runs) == [override, {"event": "promotion", "run": "bad", "decision": "promoted"}]


def test_no_override_without_its_entry(runs: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(event: str, **fields: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(custody, "record", fail)
    with pytest.raises(OSError, match="No space"):
        promote_run(runs / "bad", REASON)
    assert (runs / "latest").resolve() == runs / "good"


def test_no_promotion_without_its_entry(runs: pathlib.Path) -> None:
    """Was promoted, and then an error that looked like a promotion that failed."""
    write_gate(RunPaths(runs / "bad"), Gate((FINE,), hash_model(runs / "bad")))
    (runs.parent / "state" / "audit.jsonl").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be opened"):
        promote_run(runs / "bad")
    assert (runs / "latest").resolve() == runs / "good"
    assert read_gate(runs / "bad").replaced is None


def test_a_run_that_passed_needs_no_reason_and_gets_no_entry_for_one(runs: pathlib.Path) -> None:
    (runs / "latest").unlink()
    (runs / "latest").symlink_to("bad")
    assert promote_run(runs / "good", REASON) == ""
    assert audited(runs) == [{"event": "promotion", "run": "good", "decision": "promoted"}]


def test_export_of_a_run_that_failed_is_refused_before_anything_is_written(runs: pathlib.Path) -> None:
    with pytest.raises(ModelError, match="attack_success"):
        export_run_folder(runs / "bad", ("gguf-f16",), 0, print)
    with pytest.raises(UsageError, match="--override needs a reason"):
        export_run_folder(runs / "bad", ("gguf-f16",), 0, print, override_reason="please")
    assert not (runs / "bad" / "export").exists()


def test_an_export_that_failed_is_on_record_as_that(runs: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overseer_training.export import export_run

    def fail(*_: object, **__: object) -> None:
        raise ModelError("the disk is full")

    monkeypatch.setattr(export_run, "export_run", fail)
    with pytest.raises(ModelError, match="the disk is full"):
        export_run_folder(runs / "good", ("gguf-f16",), 0, print)
    begun = {"event": "export", "run": "good", "reason": "gguf-f16"}
    assert audited(runs) == [begun, {"event": "export", "run": "good", "decision": "failed"}]


def test_what_is_no_finished_run_is_refused(runs: pathlib.Path) -> None:
    for act in (lambda: promote_run(runs / "gone"), lambda: export_run_folder(runs / "gone", ("gguf-f16",), 0, print)):
        with pytest.raises(UsageError, match="holds no trained model"):
            act()
