from __future__ import annotations

import json
import pathlib
import shutil
import warnings

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from overseer_training.errors import NotAvailableError
from overseer_training.export.export_run import export_run
from overseer_training.records import RunPaths

from .tiny_models import load_adapter


def test_exported_adapter_computes_what_the_trained_one_does(
    adapter_folder: pathlib.Path, llama_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(adapter_folder, paths.model)
    manifest = export_run(paths, ("adapter",))
    assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/chat_template.jinja"} <= {
        entry["path"] for entry in manifest["files"]
    }
    ids = torch.arange(3, 40).unsqueeze(0)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        exported = PeftModel.from_pretrained(
            LlamaForCausalLM.from_pretrained(llama_folder), paths.export / "adapter"
        ).eval()
        assert torch.equal(exported(ids).logits, load_adapter(adapter_folder, llama_folder)(ids).logits)


def test_exported_adapter_names_the_base_and_no_folder_of_this_machine(
    adapter_folder: pathlib.Path, llama_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(adapter_folder, paths.model)
    description = json.loads((paths.model / "overseer.json").read_text())
    (paths.model / "overseer.json").write_text(json.dumps({**description, "base_model": "smollm2-135m"}))
    export_run(paths, ("adapter",))
    config = json.loads((paths.export / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    texts = [file.read_text() for file in paths.export.rglob("*") if file.suffix in (".json", ".md")]
    assert not any(str(llama_folder) in text for text in texts)
    assert "PeftModel" in (paths.export / "README.md").read_text()


def test_run_of_all_weights_has_no_adapter(llama_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    paths = RunPaths(tmp_path / "run")
    shutil.copytree(llama_folder, paths.model)
    with pytest.raises(NotAvailableError, match="safetensors instead"):
        export_run(paths, ("adapter",))
    assert not paths.export.exists()
