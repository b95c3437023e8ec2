"""A real llama.cpp server on the exported files, against transformers."""

from __future__ import annotations

import pathlib
import urllib.error

import pytest

from overseer_training.errors import ModelError
from overseer_training.export.architectures import Architecture
from overseer_training.export.gguf_file import write_gguf
from overseer_training.export.parity import llama_server, measure_parity

Requests = list[list[dict[str, str]]]


def test_llama_cpp_answers_as_transformers_does(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, requests: Requests
) -> None:
    write_gguf(llama_folder, tmp_path / "model.gguf", "f32")
    parity = measure_parity(
        tmp_path / "model.gguf", llama_folder, requests, max_new_tokens=12, threads=1, is_exact=True
    )
    assert parity.differences == []
    assert (parity.n, parity.equal, parity.prompt_tokens_equal, parity.value) == (3, 3, 3, 1.0)


def test_adapter_answers_as_transformers_does(
    adapter_folder: pathlib.Path, tmp_path: pathlib.Path, requests: Requests
) -> None:
    write_gguf(adapter_folder, tmp_path / "model.gguf", "f32")
    parity = measure_parity(
        tmp_path / "model.gguf", adapter_folder, requests[:1], max_new_tokens=12, threads=1, is_exact=True
    )
    assert parity.differences == []


def test_gemma3_answers_as_transformers_does(
    gemma3_folder: pathlib.Path, tmp_path: pathlib.Path, requests: Requests
) -> None:
    write_gguf(gemma3_folder, tmp_path / "model.gguf", "f32")
    parity = measure_parity(
        tmp_path / "model.gguf", gemma3_folder, requests, max_new_tokens=12, threads=1, is_exact=True
    )
    assert parity.differences == []


def test_wrong_row_order_is_seen(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classic export defect: the file loads, and answers are subtly or wholly wrong."""
    monkeypatch.setattr(Architecture, "convert", lambda self, name, weight: weight)
    write_gguf(llama_folder, tmp_path / "model.gguf", "f32")
    parity = measure_parity(tmp_path / "model.gguf", llama_folder, requests[:1], max_new_tokens=12, threads=1)
    assert parity.equal == 0
    assert parity.prompt_tokens_equal == 1
    assert parity.differences[0].part == "answer"
    assert parity.differences[0].margin_nats is not None
    assert parity.differences[0].margin_nats > 0.1


def test_another_template_is_seen_as_other_prompt_tokens(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overseer_training.export.model_folder import ModelFolder

    with monkeypatch.context() as patch:
        patch.setattr(ModelFolder, "chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
        write_gguf(llama_folder, tmp_path / "model.gguf", "f32")
    parity = measure_parity(tmp_path / "model.gguf", llama_folder, requests[:1], max_new_tokens=12, threads=1)
    assert parity.prompt_tokens_equal == 0
    assert parity.differences[0].part == "prompt"


def test_server_is_gone_afterwards(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write_gguf(llama_folder, tmp_path / "model.gguf")
    with llama_server(tmp_path / "model.gguf", threads=1) as server:
        assert server.post("/tokenize", {"content": "ls"})["tokens"]
    with pytest.raises(urllib.error.URLError):
        server.post("/tokenize", {"content": "ls"})


def test_file_that_llama_cpp_cannot_load_is_a_model_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match="cannot load"), llama_server(tmp_path / "model.gguf", threads=1):
        pass
