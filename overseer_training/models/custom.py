"""`model_type = "custom"`: a Llama-style model of the user's own dimensions, and a tokenizer trained on the corpus."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from overseer_training.errors import ConfigError

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def check_dimensions(dimensions: Mapping[str, Any]) -> None:
    """Raise ConfigError with every pair of dimensions that cannot go together."""
    width, heads, groups = dimensions["hidden_size"], dimensions["attention_heads"], dimensions["key_value_heads"]
    problems = []
    if width % heads:
        problems.append(f"custom_model: hidden_size {width} is not divisible by attention_heads {heads}")
    elif (width // heads) % 2:
        problems.append(f"custom_model: each head is {width // heads} wide; rotary positions need an even width")
    if heads % groups:
        problems.append(f"custom_model: attention_heads {heads} is not divisible by key_value_heads {groups}")
    if problems:
        raise ConfigError(problems)


def build_custom_model(
    dimensions: Mapping[str, Any], texts: Iterable[str], folder: pathlib.Path, *, sequence_length: int, seed: int
) -> None:
    """Write a model with random weights and a byte-level BPE tokenizer trained on `texts` to `folder`."""
    check_dimensions(dimensions)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=dimensions["vocabulary_size"],
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=dimensions["hidden_size"],
        intermediate_size=dimensions["intermediate_size"],
        num_hidden_layers=dimensions["layers"],
        num_attention_heads=dimensions["attention_heads"],
        num_key_value_heads=dimensions["key_value_heads"],
        max_position_embeddings=max(2048, sequence_length),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
