"""Every door through which a trained model or an export is used refuses one that is not what was signed, with one line."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from overseer_training import cli
from overseer_training.commands import doctor
from overseer_training.config.flags import build_parser
from overseer_training.errors import ModelError
from overseer_training.evaluation.checks import Check
from overseer_training.evaluation.gate import Gate, Replaced, write_gate
from overseer_training.gathering import Gathering
from overseer_training.guards.keys import open_keys
from overseer_training.guards.master_key import VARIABLE, KdfParameters
from overseer_training.guards.model_files import SIGNATURE_NAME, list_hashes
from overseer_training.guards.signatures import sign_model
from overseer_training.models.fetch import prepare_base_model
from overseer_training.models.load import load_trained
from overseer_training.pipeline import Session
from overseer_training.planning import make_plan
from overseer_training.records import RunPaths
from overseer_training.teachers.gguf import GgufTeacher

PLAN = ["--cpu-only", "--ram-limit", "1.0"]
CHANGED = "it was changed after the folder was signed; put back a copy of it, or delete the folder and make it again"


def plan_of(runs: pathlib.Path) -> Any:
    return make_plan(build_parser().parse_args([*PLAN, "--output-dir", str(runs)]), for_run=True)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """runs/one, with a model and an export that were signed, and the state folder of who signed them. Nothing in it can be loaded."""
    folder = tmp_path_factory.mktemp("made")
    paths = RunPaths(folder / "runs" / "one")
    paths.model.mkdir(parents=True)
    paths.export.mkdir()
    for name in ("config.json", "overseer.json", "tokenizer.json"):
        (paths.model / name).write_text("{}")
    (paths.model / "model.safetensors").write_bytes(b"weights")
    (paths.export / "model.gguf").write_bytes(b"GGUF and weights")
    manifest = {"files": [{"path": "model.gguf", "bytes": 16}], "parity": {"n": 50, "equal": 50}}
    (paths.export / "manifest.json").write_text(json.dumps(manifest))
    paths.plan.write_text(plan_of(folder / "runs").as_json({}))
    write_gate(paths, Gate((Check("base/command_accuracy", "passed", "fine"),), list_hashes(paths.model)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERSEER_STATE", str(folder / "state"))
        patch.setenv(VARIABLE, "several quiet words")
        open_keys(kdf=KdfParameters(memory_kib=19 * 1024, iterations=2, lanes=1))
        assert sign_model(paths.model) == sign_model(paths.export) == ""
    return folder


@pytest.fixture
def run(made: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    """The run, in another place, at its owner's."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "runs" / "latest").symlink_to("one")
    for folder in ("state", "state/models"):
        (tmp_path / folder).chmod(0o700)
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    return RunPaths(tmp_path / "runs" / "one")


def flip_a_bit(path: pathlib.Path) -> None:
    """And put the dates back."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


COMMANDS: dict[str, Callable[[RunPaths], list[str]]] = {
    "ask": lambda run: ["ask", "--model", str(run.root), "list files"],
    "chat": lambda run: ["chat", "--model", str(run.root)],
    "serve": lambda run: ["serve", "--model", str(run.root), "--port", "0"],
    "predict": lambda run: ["predict", "--model", str(run.root), "--input", str(run.root / "in"), "--output", str(run.root / "out")],
    "evaluate a model": lambda run: ["evaluate", "--model", str(run.root), "--limit", "0"],
    "evaluate a run": lambda run: ["evaluate", str(run.root)],
    "export": lambda run: ["export", "--run", str(run.root)],
    "export with an override": lambda run: ["export", "--run", str(run.root), "--override", "because I say so"],
    "promote": lambda run: ["learn", "promote", str(run.root), "--override", "because I say so"],
}  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line with which a command ends."""
    assert cli.main(arguments) == ModelError.exit_code
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    return errors.removesuffix("\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_weights_with_one_bit_changed(
    run: RunPaths, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.export)
    (run.root / "in").write_text('{"id": 1, "query": "list files"}\n')
    flip_a_bit(run.model / "model.safetensors")
    line = refused(capsys, COMMANDS[name](run))
    assert line == f"error: the model in {run.model} is not opened: model.safetensors: {CHANGED}"


@pytest.mark.parametrize("name", ["ask", "chat", "serve"])
def test_an_export_with_one_bit_changed_is_refused_and_not_passed_over(
    run: RunPaths, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_bit(run.export / "model.gguf")
    line = refused(capsys, COMMANDS[name](run))
    assert line == f"error: the model in {run.export} is not opened: model.gguf: {CHANGED}"


def test_an_export_that_was_changed_is_not_signed_with_what_is_new(
    run: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    from overseer_training.export import export_run

    flip_a_bit(run.export / "model.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_run, "read_model_folder", lambda path: None)  # nothing here could be exported
        line = refused(capsys, ["export", "--run", str(run.root), "--parity", "0"])
    assert line == f"error: the model in {run.export} is not opened: model.gguf: {CHANGED}"


def test_a_rollback_goes_to_no_model_that_was_changed(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    second, latest = RunPaths(run.root.parent / "second"), run.root.parent / "latest"
    second.root.mkdir()
    write_gate(second, Gate((Check("x", "passed", "fine"),), {}, replaced=Replaced("one", {})))
    latest.unlink()
    latest.symlink_to("second")
    flip_a_bit(run.model / "tokenizer.json")
    line = refused(capsys, ["learn", "rollback", "--latest", str(latest)])
    assert line == f"error: the model in {run.model} is not opened: tokenizer.json: {CHANGED}"


class Silent:
    """A terminal that nobody looks at; a stage must not begin."""

    def say(self, text: str) -> None:
        pass


DOORS: dict[str, Callable[[RunPaths], object]] = {
    "tools and outlook": lambda run: load_trained(run.root),
    "a run that goes on": lambda run: Session(
        plan_of(run.root.parent).with_values({"start_from": (str(run.root), "as in latest")}),
        RunPaths(run.root.parent / "new"), Silent(), argparse.Namespace(), None,
    ).run(),
    "a student among teachers": lambda run: Gathering(
        plan_of(run.root.parent), RunPaths(run.root.parent / "new"), Silent(), run.root.parent
    )._student(),
    "a base model": lambda run: prepare_base_model(str(run.model)),
}  # fmt: skip
FILE_DOORS: dict[str, Callable[[RunPaths], object]] = {
    "a GGUF file as base model": lambda run: prepare_base_model(str(run.export / "model.gguf")),
    "a GGUF file as teacher": lambda run: GgufTeacher(run.export / "model.gguf"),
}


@pytest.mark.parametrize("name", [*DOORS, *FILE_DOORS])
def test_other_doors_refuse_it_too(run: RunPaths, name: str) -> None:
    flip_a_bit(run.model / "model.safetensors")
    flip_a_bit(run.export / "model.gguf")
    folder, file = (run.model, "model.safetensors") if name in DOORS else (run.export, "model.gguf")
    with pytest.raises(ModelError) as caught:
        {**DOORS, **FILE_DOORS}[name](run)
    if name == "a student among teachers":
        folder = run.root.parent / "latest" / "model"
    assert str(caught.value) == f"the model in {folder} is not opened: {file}: {CHANGED}"


def test_the_doctor_tells_of_the_newest_model_and_its_export(
    run: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = run.root.parent
    assert doctor._model(runs) == doctor.Finding(
        "model", f"{runs}/latest: model is as you signed it, export is as you signed it"
    )
    (run.export / SIGNATURE_NAME).unlink()
    for name in ("_machine", "_python", "_packages", "_sandbox", "_memory"):
        monkeypatch.setattr(doctor, name, lambda: doctor.Finding("other", "fine"))
    monkeypatch.setattr(doctor, "_disk", lambda runs: doctor.Finding("disk", "fine"))
    assert cli.main(["doctor", "--output-dir", str(runs)]) == 1
    [_, advice] = capsys.readouterr().out.splitlines()[-2:]
    assert advice.strip().startswith(
        f"the model in {runs}/latest/export is not opened: signature.json: you signed this folder"
    )
    assert doctor._model(runs.parent) == doctor.Finding("model", f"{runs.parent}/latest: none yet")
