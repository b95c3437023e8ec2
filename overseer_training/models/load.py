"""Loads models for training and for answering, and writes what a run trained.

Takes folders that `fetch.py` prepared or that a run wrote; gives transformers models. Reads safetensors only, runs no remote code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from overseer_training.config.plan import Plan
from overseer_training.errors import ModelError
from overseer_training.files import staged_folder, write_json
from overseer_training.guards.signatures import admit_model, sign_model
from overseer_training.models import attention, fused
from overseer_training.prompts import SYSTEM_PROMPTS

transformers.utils.logging.disable_progress_bar()  # stages have one line each; bars would break them
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Linear layers of the language model alone; `all-linear` would also adapt Gemma 3n's per-layer inputs and its towers.
ADAPTED_LAYERS = r".*\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"


@dataclasses.dataclass
class LoadedModel:
    """A model that answers.

    Attributes:
        stop_ids: token ids that end an answer.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: tuple[int, ...]


def load_tokenizer(folder: pathlib.Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `folder`, with a padding token.

    Raises:
        ModelError: it is missing or has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds for files it cannot read
        raise ModelError(f"{folder} has no readable tokenizer: {' '.join(str(error).split())[:200]}") from error
    if tokenizer.chat_template is None:
        raise ModelError(f"the tokenizer in {folder} has no chat template; use an instruction-tuned model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer  # type: ignore[no-any-return]


def load_base(folder: pathlib.Path, dtype: torch.dtype, device: str, longest_row: int) -> PreTrainedModel:
    """The causal language model in `folder`, ready for training.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    except Exception as error:
        raise ModelError(f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    return _made_fast(model, device, longest_row)


def _made_fast(model: PreTrainedModel, device: str, longest_row: int) -> PreTrainedModel:
    if attention.suits(model.config, longest_row, device):
        model.set_attn_implementation(attention.NAME)
    fused.install(model)
    model.config.use_cache = False
    return model.to(device)  # type: ignore[no-any-return]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a model is but for its weights; small, and the same on every machine.

    Attributes:
        config: of transformers, as plain values.
        adapter: peft's configuration of the adapters; None without any.
    """

    config: dict[str, Any]
    adapter: Any = None


def architecture_of(model: Any) -> Architecture:
    """The architecture of a model that `load_to_train` gave."""
    adapters = getattr(model, "peft_config", None)
    causal = model.get_base_model() if adapters else model
    return Architecture(causal.config.to_dict(), adapters["default"] if adapters else None)


def build_to_train(architecture: Architecture, plan: Plan, longest_row: int) -> Any:
    """What `load_to_train` gives, with weights that hold nothing yet: they are to be copied from a model that was loaded."""
    with no_init_weights():
        config = AutoConfig.for_model(**architecture.config)
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[plan.precision])
    model.tie_weights()
    model = _made_fast(model, plan.device, longest_row)
    return _with_what_learns(model, plan) if architecture.adapter is None else _with_adapter(model, architecture.adapter)


def load_to_train(start: pathlib.Path, base: pathlib.Path, plan: Plan, longest_row: int) -> Any:
    """The model in `start` with what `plan` trains: all weights, or adapters; those that `start` has learn on.

    Args:
        start: `base`, or a model folder that a run wrote.
        base: the base model below the adapters of `start`.
        longest_row: tokens.

    Raises:
        ModelError: it cannot be read.
    """
    is_adapter = (start / "adapter_config.json").exists()
    model = load_base(base if is_adapter else start, DTYPES[plan.precision], plan.device, longest_row)
    if is_adapter:
        from peft import PeftModel

        with _peft_calls_deprecated_names():
            return PeftModel.from_pretrained(model, str(start), is_trainable=True, autocast_adapter_dtype=False)
    if plan.method in ("lora", "dora"):
        return add_adapter(
            model, rank=plan.lora_rank, alpha=plan.lora_alpha, dropout=plan.lora_dropout, use_dora=plan.method == "dora"
        )
    return _with_what_learns(model, plan)


def _with_what_learns(model: PreTrainedModel, plan: Plan) -> PreTrainedModel:
    """`model`, of which all weights learn, or all but those of the embeddings of tokens, at input and output.

    Each answer token tells every other token of the vocabulary that it is not the one. AdamW makes steps of the usual size of these tiny
    gradients, so that tokens which no row has drift far from where they were: docs/results.md. Source for what that costs: Kumar et
    al., "How to Fine-Tune Vision Models with SGD", 2022.
    """
    if not plan.train_embeddings:
        embeddings = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
        for module in (*embeddings, model.get_output_embeddings()):
            module.requires_grad_(False)
    return model


def add_adapter(model: PreTrainedModel, *, rank: int, alpha: float, dropout: float, use_dora: bool) -> Any:
    """`model` with low-rank adapters in its own precision; everything else is frozen."""
    from peft import LoraConfig

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        use_dora=use_dora,
        target_modules=ADAPTED_LAYERS,
        task_type="CAUSAL_LM",
    )
    try:
        return _with_adapter(model, config)
    except ValueError as error:
        raise ModelError(f"this model has no layers that adapters know ({error}); use --method full") from error


def _with_adapter(model: PreTrainedModel, config: Any) -> Any:
    from peft import get_peft_model

    with _peft_calls_deprecated_names():
        return get_peft_model(model, config, autocast_adapter_dtype=False)


@contextlib.contextmanager
def _peft_calls_deprecated_names() -> Iterator[None]:
    """peft 0.21 reads a property that transformers 5.23 renamed; its warning is nothing that a user can act on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def save_trained(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: pathlib.Path,
    *,
    base_name: str,
    base_folder: pathlib.Path | None,
    method: str,
) -> str:
    """Write a model folder, whole or not at all: full weights in bf16 or an adapter, tokenizer, template, overseer.json, signature.

    Returns:
        Why it is not signed; empty where it is.
    """
    with staged_folder(folder) as staging:
        _write_model(model, tokenizer, staging, method)
        write_json(
            staging / "overseer.json",
            {
                "format": 1,
                "base_model": base_name,
                "base_path": str(base_folder) if base_folder else None,
                "method": method,
                "system_prompts": SYSTEM_PROMPTS,
                "stop_tokens": [tokenizer.decode([token]) for token in stop_ids(tokenizer)],
            },
        )
        return sign_model(staging, folder)


def _write_model(model: Any, tokenizer: PreTrainedTokenizerBase, folder: pathlib.Path, method: str) -> None:
    if method == "full":
        state = {name: value.detach().to("cpu", torch.bfloat16) for name, value in model.state_dict().items()}
        model.config.dtype = torch.bfloat16
        model.config.use_cache = True
        model.save_pretrained(folder, state_dict=state)
        model.config.use_cache = False
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of the tokens that end an assistant's turn in this tokenizer's chat template."""
    vocabulary = tokenizer.get_vocab()
    known = [vocabulary[token] for token in ("<|im_end|>", "<end_of_turn>", "<|eot_id|>") if token in vocabulary]
    if tokenizer.eos_token_id is not None:
        known.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(known))


def load_trained(
    folder: pathlib.Path, device: str = "cpu", dtype: torch.dtype | None = None, *, is_base: bool = False
) -> LoadedModel:
    """A model that a run wrote, or any base model folder, ready to answer; adapters are merged.

    Args:
        dtype: None takes bf16 where the processor has it, else fp32.
        is_base: it is the base model of a run, which `fetch.py` let in, and nobody here signs.

    Raises:
        ModelError: the folder is not a model, is not what was signed, or the base of its adapter is gone.
    """
    folder = _model_folder(folder)
    if not is_base:
        admit_model(folder)
    dtype = dtype or _answering_dtype(device)
    tokenizer = load_tokenizer(folder)
    if (folder / "adapter_config.json").exists():
        from peft import PeftModel

        base = _base_of_adapter(folder)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, use_safetensors=True)
        with _peft_calls_deprecated_names():
            adapted = PeftModel.from_pretrained(model, str(folder))
        model = adapted.merge_and_unload().to(dtype)  # type: ignore[operator]
    else:
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        except Exception as error:
            raise ModelError(f"{folder} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    model = model.to(device).eval()
    model.config.use_cache = True
    return LoadedModel(model, tokenizer, stop_ids(tokenizer))


def _model_folder(folder: pathlib.Path) -> pathlib.Path:
    """`folder`, or its `model` when it is a run."""
    folder = folder / "model" if (folder / "model" / "overseer.json").exists() else folder
    if not (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds no trained model; train one with: make train, or name a run or a model folder with --model"
        )
    return folder


def _base_of_adapter(folder: pathlib.Path) -> pathlib.Path:
    from overseer_training.models.fetch import prepare_base_model

    try:
        document = json.loads((folder / "overseer.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has an adapter but no readable overseer.json that names its base") from error
    path = document.get("base_path")
    return pathlib.Path(path) if path and pathlib.Path(path).is_dir() else prepare_base_model(document["base_model"])


def _answering_dtype(device: str) -> torch.dtype:
    from overseer_training.config.machine import find_machine

    if device == "cuda" or (device == "cpu" and find_machine().cpu_features):
        return torch.bfloat16
    return torch.float32
