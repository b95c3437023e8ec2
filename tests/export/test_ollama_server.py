"""The official client against a server that answers as Ollama does."""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
import threading
from collections.abc import Iterator

import pytest

from overseer_training.errors import NotAvailableError, OverseerError, UsageError
from overseer_training.export.export_run import export_run
from overseer_training.export.ollama_file import CHATML_TEMPLATE
from overseer_training.export.ollama_server import OllamaServer
from overseer_training.prompts import SYSTEM_PROMPTS
from overseer_training.records import RunPaths

from .ollama_like import OllamaLike


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[OllamaLike]:
    (tmp_path / "blobs").mkdir()
    with OllamaLike(tmp_path / "blobs") as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def paths(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> RunPaths:
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(llama_folder, paths.model)
    return paths


def test_model_is_made_with_the_weights_and_settings_of_training(server: OllamaLike, paths: RunPaths) -> None:
    said: list[str] = []
    target = OllamaServer("shell:v2", server.address)
    export_run(paths, ("gguf-q8_0", "ollama"), ollama=target, notify=said.append)
    made = server.models["shell:v2"]
    assert server.blob(made["files"]["model.gguf"]).read_bytes() == (paths.export / "model.gguf").read_bytes()
    assert made["template"] == CHATML_TEMPLATE
    assert made["system"] == SYSTEM_PROMPTS["linux"]
    assert made["parameters"] == {"stop": ["<|im_end|>"], "temperature": 0, "repeat_penalty": 1.0}
    unsigned, made_it = said
    assert "is not signed: that takes a keyring that is unlocked, or OVERSEER_PASSPHRASE" in unsigned
    assert made_it == f"made shell:v2 in Ollama at {server.address}; try: ollama run shell:v2"


def test_f16_is_sent_where_no_gguf_kind_is_named(server: OllamaLike, paths: RunPaths) -> None:
    manifest = export_run(paths, ("ollama",), ollama=OllamaServer(address=server.address))
    assert "overseer" in server.models
    assert {entry["path"] for entry in manifest["files"]} == {"model.gguf", "Modelfile", "README.md"}


def test_without_a_server_the_files_are_complete_and_the_command_is_told(paths: RunPaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NotAvailableError) as caught:
        export_run(paths, ("ollama",), ollama=OllamaServer(address=f"127.0.0.1:{port}"))
    told = str(caught.value)
    assert "ollama serve" in told
    assert f"ollama create overseer -f {paths.export / 'Modelfile'}" in told
    assert "\n" not in told
    listed = {entry["path"] for entry in json.loads((paths.export / "manifest.json").read_text())["files"]}
    assert "Modelfile" in listed


@pytest.mark.parametrize(
    ("fault", "words"),
    [("create", "unsupported architecture"), ("cut", "broke off after 'creating"), ("template", "another template")],
)
def test_what_the_server_gets_wrong_is_an_error(server: OllamaLike, paths: RunPaths, fault: str, words: str) -> None:
    server.faults.add(fault)
    with pytest.raises(OverseerError, match=words):
        export_run(paths, ("ollama",), ollama=OllamaServer(address=server.address))


def test_another_kind_of_server_is_one_line(tmp_path: pathlib.Path, server: OllamaLike, paths: RunPaths) -> None:
    with pytest.raises(OverseerError, match="404"):
        export_run(paths, ("ollama",), ollama=OllamaServer(address=f"{server.address}/elsewhere"))


def test_weights_leave_this_machine_only_for_a_host_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "models.example.org")
    with pytest.raises(UsageError, match=r"models\.example\.org.*not on this machine"):
        OllamaServer()
    assert OllamaServer(allow=lambda host: host == "models.example.org").address == "http://models.example.org:11434"


@pytest.mark.parametrize("name", ["", "two words", "../up", "-x y", "a:b:c", "überseer"])
def test_names_that_ollama_would_refuse_are_refused_before_anything_is_written(name: str) -> None:
    with pytest.raises(UsageError, match="no name for a model"):
        OllamaServer(name)
