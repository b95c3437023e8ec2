"""llama.cpp's own packing, judged by the `gguf` package, which unpacks without it; and a file of it in llama.cpp."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import gguf
import numpy as np
import pytest

from overseer_training.errors import ModelError, NotAvailableError
from overseer_training.export import quantize
from overseer_training.export.export_run import export_run
from overseer_training.export.gguf_file import write_gguf
from overseer_training.export.llama_server import llama_server
from overseer_training.export.quantize import GgufKind, pack, storage_type
from overseer_training.records import RunPaths

from .tiny_models import build_llama

TYPES = gguf.GGMLQuantizationType


@pytest.fixture
def without_quantizer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    quantize._ggml_quantize_chunk.cache_clear()
    monkeypatch.setattr("ctypes.CDLL", lambda path: object())
    yield
    quantize._ggml_quantize_chunk.cache_clear()


@pytest.mark.parametrize(
    ("storage", "error"), [(TYPES.Q4_K, 0.09), (TYPES.Q5_0, 0.06), (TYPES.Q6_K, 0.025), (TYPES.Q8_0, 0.01)]
)
def test_packed_rows_unpack_to_the_values(storage: gguf.GGMLQuantizationType, error: float) -> None:
    values = np.random.default_rng(0).normal(size=(5, 512)).astype(np.float32)
    unpacked = gguf.dequantize(pack(values, storage), storage)
    assert unpacked.shape == values.shape
    relative = np.linalg.norm(unpacked - values, axis=1) / np.linalg.norm(values, axis=1)
    assert relative.max() < error


def test_llama_cpp_packs_q5_0_as_gguf_does() -> None:
    """The one type that both can pack, and that q4_k_m uses: row order and arguments are right."""
    values = np.random.default_rng(1).normal(size=(7, 96)).astype(np.float32)
    assert np.array_equal(pack(values, TYPES.Q5_0), gguf.quantize(values, TYPES.Q5_0))


@pytest.mark.parametrize(
    ("name", "width", "is_tied", "expected"),
    [
        ("token_embd.weight", 576, True, "Q8_0"),
        ("token_embd.weight", 640, False, "Q5_0"),
        ("token_embd.weight", 512, True, "Q6_K"),
        ("token_embd.weight", 512, False, "Q4_K"),
        ("output.weight", 512, False, "Q6_K"),
        ("blk.3.attn_q.weight", 512, True, "Q4_K"),
        ("blk.3.attn_q.weight", 576, True, "Q5_0"),
        ("blk.3.attn_v.weight", 512, True, "Q4_K"),
        ("blk.2.attn_v.weight", 512, True, "Q6_K"),
        ("blk.2.attn_v.weight", 576, True, "Q8_0"),
        ("blk.5.ffn_down.weight", 1536, True, "Q6_K"),
        ("blk.25.ffn_down.weight", 1536, True, "Q4_K"),
        ("blk.26.ffn_down.weight", 1536, True, "Q6_K"),
        ("blk.3.ffn_down.weight", 80, True, "F16"),
    ],
)
def test_q4_k_m_has_the_types_of_llama_quantize(name: str, width: int, is_tied: bool, expected: str) -> None:
    """For a model of 30 layers, as SmolLM2-135M."""
    assert storage_type(name, (4, width), "q4_k_m", 30, is_tied=is_tied).name == expected


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_k_m"])
def test_vectors_stay_in_full_precision(kind: GgufKind) -> None:
    assert storage_type("blk.0.attn_norm.weight", (576,), kind, 30, is_tied=True) == TYPES.F32


def test_rows_that_no_block_divides_stay_in_f16(tmp_path: pathlib.Path) -> None:
    folder = build_llama(tmp_path / "model", intermediate_size=80)
    write_gguf(folder, tmp_path / "model.gguf", "q8_0")
    stored = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert stored["blk.0.ffn_down.weight"] == TYPES.F16
    assert stored["blk.0.ffn_up.weight"] == TYPES.Q8_0


def test_q4_k_m_file_answers_in_llama_cpp(tmp_path: pathlib.Path, requests: list[list[dict[str, str]]]) -> None:
    folder = build_llama(tmp_path / "model", hidden_size=256, intermediate_size=512)
    write_gguf(folder, tmp_path / "f16.gguf", "f16")
    write_gguf(folder, tmp_path / "model.gguf", "q4_k_m")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_M
    assert {"Q4_K", "Q6_K"} <= {tensor.tensor_type.name for tensor in reader.tensors}
    assert (tmp_path / "model.gguf").stat().st_size < (tmp_path / "f16.gguf").stat().st_size / 2
    with llama_server(tmp_path / "model.gguf", threads=1) as server:
        assert len(server.greedy_answer(server.prompt_tokens(requests[0]), 4)) > 0


def test_misplaced_rows_are_found_when_the_file_is_read_back(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overseer_training.export.gguf_file.pack", lambda values, to: pack(values[::-1].copy(), to))
    with pytest.raises(ModelError, match="read back"):
        write_gguf(llama_folder, tmp_path / "model.gguf", "q4_k_m")
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.usefixtures("without_quantizer")
def test_q4_k_m_without_the_quantizer_is_refused_before_anything_is_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotAvailableError, match=r"gguf-q8_0.*llama-quantize"):
        export_run(RunPaths(tmp_path), ("gguf-f16", "gguf-q4_k_m"))
    assert list(tmp_path.iterdir()) == []
