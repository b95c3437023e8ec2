"""Tiny models with real tokenizers, built here: nothing is downloaded, and a test takes seconds."""

from __future__ import annotations

import json
import pathlib
import warnings
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from overseer_training.prompts import SYSTEM_PROMPTS

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{'<start_of_turn>' + message['role'] + '\n' + message['content'] + "
    "'<end_of_turn>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TEXT = [
    "find . -name '*.py' -size +10M -mtime -7",
    "tar -czf logs.tar.gz logs && rm -r logs",
    "du -sh /var/* | sort -rh | head -n 20",
    "grep -rn TODO src  2>/dev/null",
    "list files in videos larger than 10 megabytes and sort them by size",
    "You are Overseer. Answer with one shell command for Linux.",
    "system user assistant model",
]
CHATML_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]


def byte_level_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=CHATML_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    """As Gemma's: spaces become ▁, unknown characters become bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=GEMMA_TOKENS, show_progress=False)
    tokenizer.train_from_iterator([word for line in TEXT for word in line.split(" ")] + [" the", " -"], trainer)
    data = json.loads(tokenizer.to_str())
    vocab = data["model"]["vocab"]
    vocab.update({f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)})
    data["model"].update(byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bos = tokenizer.token_to_id("<bos>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: pathlib.Path, template: str, **tokens: str) -> None:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens.values()])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **tokens)
    fast.chat_template = template
    fast.save_pretrained(folder)


def describe(folder: pathlib.Path, **changes: Any) -> None:
    description = {
        "format": 1,
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_path": "",
        "method": "full",
        "system_prompts": dict(SYSTEM_PROMPTS),
        "stop_tokens": ["<|im_end|>"],
    }
    (folder / "overseer.json").write_text(json.dumps({**description, **changes}))


def build_llama(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    folder.mkdir(parents=True)
    tokenizer = byte_level_tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": 512,  # more rows than tokens, as padded embeddings have
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,  # wide: answers are decided by more than rounding
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).save_pretrained(folder)
    save_tokenizer(
        tokenizer, folder, CHATML, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>"
    )
    describe(folder)
    return folder


def build_gemma3(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True)
    tokenizer = sentencepiece_tokenizer()
    config = Gemma3TextConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=16,  # shorter than the prompts: local layers must forget
        max_position_embeddings=512,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):  # zeros would hide a forgotten shift
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, GEMMA, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>")
    describe(folder, base_model="google/gemma-3-270m-it", stop_tokens=["<end_of_turn>"])
    return folder


def build_adapter(folder: pathlib.Path, base: pathlib.Path, *, use_dora: bool, modules: list[str]) -> pathlib.Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = LlamaForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=modules, use_dora=use_dora, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft 0.21 reads a name that transformers 5.23 deprecates.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
            elif "lora_magnitude" in name:
                weight.mul_(1.3)
    adapted.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((base / name).read_bytes())
    describe(folder, base_path=str(base), method="dora" if use_dora else "lora")
    return folder


def load_adapter(folder: pathlib.Path, base: pathlib.Path) -> Any:
    """The adapter on its base, not merged."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), folder).eval()
