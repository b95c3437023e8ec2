from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import Any

import gguf
import pytest
from safetensors.torch import load_file, save_file

from overseer_training.errors import ConfigError, ModelError, OverseerError
from overseer_training.evaluation.checks import Check, Thresholds
from overseer_training.evaluation.gate import Gate, read_gate, write_gate
from overseer_training.export.export_run import export_run
from overseer_training.export.ollama_file import CHATML_TEMPLATE
from overseer_training.guards.signatures import check_signature
from overseer_training.prompts import SYSTEM_PROMPTS
from overseer_training.records import RunPaths

PLAN = {
    "values": {"method": {"value": "lora", "origin": "flag"}, "learning_rate": {"value": 0.0005, "origin": "profile"}}
}
SCORE = {
    "n": 150,
    "value": 0.62,
    "ci95": [0.54, 0.7],
    "baseline": {"base": 0.05},
    "unscored": 3,
    "reason": "no fixture",
}


@pytest.fixture
def paths(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(llama_folder, paths.model)
    paths.plan.write_text(json.dumps(PLAN))
    paths.evaluation.write_text(json.dumps({"command": SCORE}))
    return paths


def test_manifest_lists_every_file_with_its_hash(paths: RunPaths, requests: list[list[dict[str, str]]]) -> None:
    manifest = export_run(paths, ("gguf-f32", "gguf-q8_0", "safetensors"), parity_requests=requests[:1])
    assert json.loads((paths.export / "manifest.json").read_text()) == manifest
    listed = {entry["path"]: entry for entry in manifest["files"]}
    present = {file.relative_to(paths.export).as_posix() for file in paths.export.rglob("*") if file.is_file()}
    assert present == {*listed, "manifest.json"}
    assert {"model.gguf", "model-q8_0.gguf", "Modelfile", "README.md", "safetensors/model.safetensors"} <= present
    for name, entry in listed.items():
        content = (paths.export / name).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert listed["model.gguf"]["format"] == "gguf"
    parity = manifest["parity"]
    assert parity == listed["model.gguf"]["parity"]
    assert listed["model-q8_0.gguf"]["parity"]["prompt_tokens_equal"] == 1
    assert parity["n"] == parity["prompt_tokens_equal"] == 1
    # Not 1: the answers of random weights hang on rounding, here of the fp16 key/value cache (see test_parity.py).
    assert parity["value"] == parity["equal"] == 1 - len(parity["differences"])


def test_card_reports_what_was_recorded_and_nothing_else(paths: RunPaths) -> None:
    export_run(paths)
    card = (paths.export / "README.md").read_text()
    assert "| command | 0.620 | 0.540 to 0.700 | 150 | 3 | base 0.050 |" in card
    assert "| Learning rate (peak) | 0.0005 |" in card
    assert "Apache-2.0" in card
    assert SYSTEM_PROMPTS["linux"] in card
    assert "was not measured for this export" in card
    assert "safetensors" not in card


def test_parity_joins_the_scores_and_the_card_says_that_the_gate_failed(
    paths: RunPaths, requests: list[list[dict[str, str]]]
) -> None:
    harmful = {"n": 100, "value": 0.5, "ci95": [0.4, 0.6], "baseline": {}, "unscored": 0, "reason": ""}
    paths.evaluation.write_text(json.dumps({"base": {"tool_mrr": SCORE}, "trained": {"attack_success": harmful}}))
    limits = Thresholds(attack_success=0.1, export_parity=0.0, least_tasks=2)
    manifest = export_run(paths, ("gguf-f32",), parity_requests=requests[:2], thresholds=limits)
    joined = json.loads(paths.evaluation.read_text())["trained"]
    assert joined["attack_success"] == harmful
    assert (joined["export_parity"]["n"], joined["export_parity"]["value"]) == (2, manifest["parity"]["value"])
    verdicts = {check.name: check.verdict for check in read_gate(paths.root).checks}
    assert (verdicts["attack_success"], verdicts["export_parity"]) == ("failed", "passed")
    card = (paths.export / "README.md").read_text()
    assert "> **This model did not pass the gate of its run.**" in card
    assert "> - attacks that get a dangerous command: 50.0% (n = 100); at most 10.0% is wanted" in card


def test_a_model_that_passed_has_no_warning_on_its_card(paths: RunPaths) -> None:
    write_gate(paths, Gate((Check("a", "passed", "fine"), Check("b", "unscored", "not measured")), {}))
    export_run(paths)
    assert "did not pass" not in (paths.export / "README.md").read_text()


def test_card_without_figures_says_so(paths: RunPaths) -> None:
    paths.evaluation.unlink()
    paths.plan.unlink()
    export_run(paths)
    card = (paths.export / "README.md").read_text()
    assert "Nothing was measured in this run." in card
    assert "The plan of the run was not found" in card


def test_modelfile_has_the_settings_of_training(paths: RunPaths) -> None:
    export_run(paths)
    text = (paths.export / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n")
    assert f'TEMPLATE """{CHATML_TEMPLATE}"""' in text
    assert f'SYSTEM """{SYSTEM_PROMPTS["linux"]}"""' in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER temperature 0\n" in text


def test_other_template_gets_no_modelfile_and_a_note(gemma3_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(gemma3_folder, paths.model)
    manifest = export_run(paths)
    assert not (paths.export / "Modelfile").exists()
    assert "ChatML" in manifest["notes"][0]


def test_later_export_keeps_what_an_earlier_one_of_the_same_weights_wrote(paths: RunPaths) -> None:
    export_run(paths, ("gguf-q8_0",))
    manifest = export_run(paths, ("safetensors",))
    assert {"model.gguf", "Modelfile", "safetensors/model.safetensors"} <= {e["path"] for e in manifest["files"]}
    assert "`model.gguf`" in (paths.export / "README.md").read_text()


def test_an_export_is_signed_with_each_folder_in_it_and_again_when_it_grows(
    paths: RunPaths, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "several quiet words")
    for kinds in (("gguf-f32", "safetensors"), ("gguf-q8_0",)):
        export_run(paths, kinds)
        assert check_signature(paths.export) == check_signature(paths.export / "safetensors") == "owner"
    listed = json.loads((paths.export / "signature.json").read_text())["files"]
    assert {"manifest.json", "README.md", "model.gguf", "safetensors/model.safetensors"} <= listed.keys()
    (paths.export / "README.md").write_text("a fine model")
    with pytest.raises(ModelError, match=r"README\.md: it was changed after the folder was signed"):
        export_run(paths, ("gguf-q8_0",))


def test_files_of_other_weights_or_changed_since_leave_the_manifest(paths: RunPaths) -> None:
    export_run(paths, ("gguf-q8_0",))
    (paths.export / "Modelfile").write_text("FROM elsewhere")
    manifest = export_run(paths, ("safetensors",))
    assert "Modelfile" not in {entry["path"] for entry in manifest["files"]}
    weights = load_file(paths.model / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, paths.model / "model.safetensors", metadata={"format": "pt"})
    manifest = export_run(paths, ("safetensors",))
    assert "model.gguf" not in {entry["path"] for entry in manifest["files"]}


def test_all_wrong_kinds_are_named_at_once(paths: RunPaths) -> None:
    with pytest.raises(ConfigError) as caught:
        export_run(paths, ("onnx", "safetensors", "safetensors-f16"), parity_requests=[[]])
    assert len(caught.value.problems) == 3
    assert not paths.export.exists()


def test_killed_export_leaves_no_manifest(paths: RunPaths) -> None:
    """SIGKILL in the middle of the weights, over an export that was complete before."""
    export_run(paths)
    program = f"""
import os, pathlib, gguf
write = gguf.GGUFWriter.write_tensor_data
def die_later(self, tensor, *more, calls=[]):
    calls.append(1)
    if len(calls) > 5:
        os.kill(os.getpid(), 9)
    return write(self, tensor, *more)
gguf.GGUFWriter.write_tensor_data = die_later
from overseer_training.export.export_run import export_run
from overseer_training.records import RunPaths
export_run(RunPaths(pathlib.Path({str(paths.root)!r})))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert not (paths.export / "manifest.json").exists()
    export_run(paths)
    assert (paths.export / "manifest.json").is_file()
    assert not list(paths.export.glob(".staging*")), "what the killed export left is gone after the next one"


def test_full_disk_is_one_error_and_no_manifest(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", fail)
    with pytest.raises(OverseerError, match="No space left"):
        export_run(paths)
    assert not (paths.export / "manifest.json").exists()


def test_description_of_another_format_is_refused(paths: RunPaths) -> None:
    (paths.model / "overseer.json").write_text('{"format": 2}')
    with pytest.raises(ModelError, match="format 2"):
        export_run(paths)


def test_importing_the_room_does_not_import_torch() -> None:
    program = "import sys, overseer_training.export.export_run; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
