"""Greedy answers to many conversations at once: sorted by length, padded on the left, with a key-value cache.

torch is imported by what generates, so that what answers with llama.cpp gets `extract_command` without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overseer_training.models.load import LoadedModel

MAX_NEW_TOKENS = 96  # chosen; a row of the corpus has 49 tokens in the mean, prompt included
BATCH_SIZE = 32
CODE_BLOCK = re.compile(r"```[ \t]*(?:\w+[ \t]*\n)?(.*?)(?:```|$)", re.DOTALL)
CONTINUATION = re.compile(r"\s*\\\n\s*")


def render_prompt(loaded: LoadedModel, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of `messages` up to where the assistant speaks."""
    encoded = loaded.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])  # type: ignore[index, call-overload]


def generate(
    loaded: LoadedModel,
    conversations: Sequence[list[dict[str, str]]],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[list[int], list[str]], None] | None = None,
) -> list[str]:
    """One greedy answer for each conversation, in their order.

    Args:
        conversations: messages with roles and contents, system prompt included.
        on_batch: is told indices and answers of each finished batch.
    """
    prompts = [render_prompt(loaded, messages) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        for index, answer in zip(
            indices, _generate_batch(loaded, [prompts[i] for i in indices], max_new_tokens), strict=True
        ):
            answers[index] = answer
        if on_batch is not None:
            on_batch(indices, [answers[index] for index in indices])
    return answers


def _generate_batch(loaded: LoadedModel, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
    import torch

    longest = max(len(prompt) for prompt in prompts)
    pad = loaded.tokenizer.pad_token_id
    device = loaded.model.device
    ids_bt = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask_bt = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    with torch.inference_mode():
        output_bt = loaded.model.generate(  # type: ignore[operator]
            input_ids=ids_bt,
            attention_mask=mask_bt,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=list(loaded.stop_ids),
            pad_token_id=pad,
        )
    return [
        loaded.tokenizer.decode(row[longest:], skip_special_tokens=True).strip()  # type: ignore[union-attr]
        for row in output_bt
    ]


def extract_command(text: str) -> str:
    """The command in an answer: what its first code block holds, else its first line that is not an announcement."""
    block = CODE_BLOCK.search(text)
    joined = CONTINUATION.sub(" ", block.group(1) if block else text)
    lines = [line.strip() for line in joined.split("\n") if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":") and not block:
        del lines[0]
    line = lines[0] if lines else ""
    if len(line) > 2 and line.startswith("`") and line.endswith("`"):
        line = line.strip("`")
    return line.removeprefix("$ ").strip()
