from __future__ import annotations

import json
import pathlib
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from overseer_training.errors import ModelError
from overseer_training.export.merge import merge_adapter, write_safetensors

from .tiny_models import build_adapter, build_llama, load_adapter

IDS = torch.arange(3, 40).unsqueeze(0)


def test_merged_logits_equal_adapter_logits(adapter_folder: pathlib.Path, llama_folder: pathlib.Path) -> None:
    adapted = load_adapter(adapter_folder, llama_folder)
    merged = merge_adapter(adapter_folder)
    with torch.inference_mode():
        base = merge_adapter(llama_folder)(IDS).logits
        expected = adapted(IDS).logits
        torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-3)
    assert (expected - base).abs().max() > 0.1, "the adapter must do something for this test to say something"
    assert merged.dtype == torch.float32
    assert not any("lora" in name for name, _ in merged.named_parameters())


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning")
def test_adapter_that_merging_would_change_is_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Tied embeddings: an adapter on the embedding alone reaches the output head once it is merged."""
    folder = build_adapter(tmp_path / "model", llama_folder, use_dora=False, modules=["q_proj"])
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", "embed_tokens"]}))
    weights = load_file(folder / "adapter_model.safetensors")
    weights["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.randn(4, 512)
    weights["base_model.model.model.embed_tokens.lora_embedding_B"] = torch.randn(64, 4)
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="moves logits"):
        merge_adapter(folder)


def test_adapter_without_its_base_says_where_it_looked(adapter_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(adapter_folder, folder)
    description = json.loads((folder / "overseer.json").read_text())
    (folder / "overseer.json").write_text(json.dumps({**description, "base_path": "/nowhere/base"}))
    with pytest.raises(ModelError, match="/nowhere/base"):
        merge_adapter(folder)


def test_adapter_that_lacks_weights_is_refused(adapter_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(adapter_folder, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(sorted(weights)[0])
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        merge_adapter(folder)


def test_weights_that_lack_a_tensor_are_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack model\.norm\.weight"):
        merge_adapter(folder)


def test_safetensors_folder_answers_as_the_adapter_did(adapter_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "safetensors"
    write_safetensors(adapter_folder, target, "bf16")
    loaded = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    merged = merge_adapter(adapter_folder).state_dict()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, merged[name].to(torch.bfloat16).float()), name
    stored = load_file(target / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in stored, "tied embeddings are stored once"
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert tokenizer.chat_template == (adapter_folder / "chat_template.jinja").read_text()
    description = json.loads((target / "overseer.json").read_text())
    assert description["method"] == "full"
    assert description["base_path"] == ""
    assert not list(tmp_path.glob(".staging*"))


def test_untied_head_is_kept(tmp_path: pathlib.Path) -> None:
    folder = build_llama(tmp_path / "model", tie_word_embeddings=False)
    write_safetensors(folder, tmp_path / "out", "f16")
    assert load_file(tmp_path / "out" / "model.safetensors")["lm_head.weight"].dtype == torch.float16


def test_values_beyond_f16_are_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = 1e5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="bf16"):
        write_safetensors(folder, tmp_path / "out", "f16")
    assert not (tmp_path / "out").exists()
