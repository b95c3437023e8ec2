from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from overseer_training.errors import ModelError, UsageError
from overseer_training.export.gguf_file import write_gguf
from overseer_training.export.merge import merge_adapter
from overseer_training.export.quantize import GgufKind


def fields_of(path: pathlib.Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def change_config(source: pathlib.Path, target: pathlib.Path, **changes: Any) -> pathlib.Path:
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_metadata_reads_back(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "model.gguf"
    write_gguf(llama_folder, target, "f16")
    fields = fields_of(target)
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count"] == 4
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.freq_base"] == 100000.0
    assert fields["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.ggml.eos_token_id"] == fields["tokenizer.ggml.eot_token_id"] == 2
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == (llama_folder / "chat_template.jinja").read_text()
    assert fields["tokenizer.ggml.tokens"][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert fields["tokenizer.ggml.token_type"][:3] == [gguf.TokenType.CONTROL] * 3
    assert len(fields["tokenizer.ggml.tokens"]) == 512
    assert fields["tokenizer.ggml.token_type"][-1] == gguf.TokenType.UNUSED
    assert not list(tmp_path.glob(".staging*"))


@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 0.0), ("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 2e-2)])
def test_weights_read_back(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, kind: GgufKind, tolerance: float
) -> None:
    target = tmp_path / "model.gguf"
    write_gguf(llama_folder, target, kind)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    weights = load_file(llama_folder / "model.safetensors")
    down = weights["model.layers.1.mlp.down_proj.weight"].numpy()
    stored = tensors["blk.1.ffn_down.weight"]
    assert stored.tensor_type == gguf.GGMLQuantizationType[kind.upper()]
    assert np.abs(gguf.dequantize(stored.data, stored.tensor_type) - down).max() <= tolerance
    assert tensors["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert "output.weight" not in tensors, "tied embeddings are stored once"


def test_query_rows_are_in_llama_cpp_order(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Pairs (i, i + half) of each head become neighbours; head width 16, so row 1 is the old row 8."""
    write_gguf(llama_folder, tmp_path / "model.gguf", "f32")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    query = load_file(llama_folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].numpy()
    assert np.array_equal(tensors["blk.0.attn_q.weight"].data[1], query[8])
    assert np.array_equal(tensors["blk.0.attn_q.weight"].data[17], query[24])


def test_adapter_is_merged_into_the_file(adapter_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write_gguf(adapter_folder, tmp_path / "model.gguf", "f32")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    expected = merge_adapter(adapter_folder).state_dict()["model.layers.0.self_attn.v_proj.weight"].numpy()
    np.testing.assert_allclose(tensors["blk.0.attn_v.weight"].data, expected)


def test_unsupported_architecture_says_what_to_use(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = change_config(llama_folder, tmp_path / "model", architectures=["Gemma3nForCausalLM"])
    with pytest.raises(ModelError, match=r"Gemma3nForCausalLM.*convert_hf_to_gguf"):
        write_gguf(folder, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_scaled_rope_is_refused_not_dropped(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0}
    folder = change_config(llama_folder, tmp_path / "model", rope_parameters=rope)
    with pytest.raises(ModelError, match="llama3"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_weights_that_lack_a_tensor_are_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_damaged_weights_are_a_model_error(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="damaged"):
        write_gguf(folder, tmp_path / "model.gguf")


def test_failed_write_keeps_the_file_that_was_there(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    target = tmp_path / "model.gguf"
    target.write_bytes(b"before")
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", fail)
    with pytest.raises(OSError, match="No space"):
        write_gguf(llama_folder, target)
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_unknown_kind_is_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="q4_0"):
        write_gguf(llama_folder, tmp_path / "model.gguf", "q4_0")  # type: ignore[arg-type]


def test_weights_that_are_no_numbers_are_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="no numbers"):
        write_gguf(folder, tmp_path / "model.gguf", "q4_k_m")
