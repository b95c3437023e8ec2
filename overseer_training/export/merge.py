"""Full weights from a model folder, with its adapter merged in.

Takes a model folder; gives a fp32 model on the CPU, or a merged folder that any program on transformers loads.
Adapters are merged in fp32: DoRA divides by the norm of base plus update, which bf16 rounds visibly.
"""

from __future__ import annotations

import pathlib
import shutil
import warnings
from typing import Any, Literal

import torch

from overseer_training.errors import ModelError
from overseer_training.export.model_folder import DESCRIPTION_NAME, TOKENIZER_FILES, ModelFolder, read_model_folder
from overseer_training.files import staged_folder, write_json

SafetensorsKind = Literal["bf16", "f16"]
DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "f16": torch.float16}
PROBE_TOKENS = 16  # chosen: enough that every merged matrix takes part in the comparison
# Of the largest logit; chosen. Measured with rank 16 on all matrices of SmolLM2-135M: a right fp32 merge is off by 4e-6.
MERGE_TOLERANCE = 1e-3


def merge_adapter(folder: pathlib.Path) -> Any:
    """The transformers model of `folder` in fp32 on the CPU, in eval mode, its adapter merged where it has one.

    Raises:
        ModelError: files are missing or damaged, or the merged model does not compute what the adapter computed.
    """
    model_folder = read_model_folder(folder)
    model = _load_weights(model_folder)
    return _merge(model, model_folder) if model_folder.is_adapter else model


def _load_weights(folder: ModelFolder) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder.weights_path,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"Weights in {folder.weights_path} cannot be loaded: {error}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random numbers and goes on.
        raise ModelError(f"Weights in {folder.weights_path} lack {', '.join(missing[:3])} ({len(missing)} in all).")
    return model.eval()


def _merge(base: Any, folder: ModelFolder) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        # peft 0.21 reads a name that transformers 5.23 deprecates; nothing a person could do about it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        try:
            adapted = PeftModel.from_pretrained(base, str(folder.path), is_trainable=False).eval()
        except (OSError, ValueError, RuntimeError, KeyError, UserWarning) as error:
            raise ModelError(
                f"Adapter {folder.path} does not fit the base in {folder.weights_path}: {error}"
            ) from error
    probe = _probe(base.config.vocab_size)
    with torch.inference_mode():
        expected = adapted(input_ids=probe).logits
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"Adapter {folder.path} cannot be merged: {error}") from error
    with torch.inference_mode():
        difference = float((merged(input_ids=probe).logits - expected).abs().max())
    scale = max(1.0, float(expected.abs().max()))
    if not difference <= MERGE_TOLERANCE * scale:
        # The known case: an adapter on one of two tied matrices (embedding, output head) reaches both when merged.
        raise ModelError(
            f"Merging {folder.path} moves logits by {difference:.2g}. If it adapts embed_tokens or lm_head of a base "
            "with tied embeddings, train without these modules."
        )
    return merged.eval()


def _probe(vocabulary_size: int) -> torch.Tensor:
    """(1, PROBE_TOKENS) token ids spread over the vocabulary; any text would do."""
    return torch.linspace(0, vocabulary_size - 1, PROBE_TOKENS).long().unsqueeze(0)


def write_safetensors(folder: pathlib.Path, target: pathlib.Path, kind: SafetensorsKind = "bf16") -> None:
    """Write a merged Hugging Face folder: weights in `kind`, configuration, tokenizer, chat template, overseer.json.

    Tied embeddings stay tied: the output head is stored once. `target` is complete or absent.

    Raises:
        ModelError: as `merge_adapter`, or weights are beyond the range of f16.
    """
    model_folder = read_model_folder(folder)
    model = merge_adapter(folder)
    if kind == "f16":
        _refuse_overflow(model)
    model = model.to(DTYPES[kind])
    with staged_folder(target) as staging:
        model.save_pretrained(staging)
        for name in TOKENIZER_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, staging / name)
        # base_path is a path of this machine: a full model needs none, and it does not belong in a published folder.
        write_json(staging / DESCRIPTION_NAME, {**model_folder.description, "method": "full", "base_path": ""})


def _refuse_overflow(model: Any) -> None:
    limit = torch.finfo(torch.float16).max
    for name, weight in model.state_dict().items():
        if float(weight.abs().max()) > limit:
            raise ModelError(f"{name} has values beyond the f16 range ({limit:.0f}). Export bf16 instead.")
