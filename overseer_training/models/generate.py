"""Answers to many conversations at once, the likeliest or sampled ones, in batches of similar length.

torch is imported by what generates, so that what answers with llama.cpp gets `extract_command` without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from overseer_training.models.decoding import BEAMS, Sampling, decode_batch, search_batch

if TYPE_CHECKING:
    import torch

    from overseer_training.models.load import LoadedModel

MAX_NEW_TOKENS = 96  # chosen; a row of the corpus has 49 tokens in the mean, prompt included
BATCH_SIZE = 32
ROWS_OF_A_SEARCH = 2  # that a prompt counts as; chosen: hypotheses that cannot win any more leave the batch
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
    sampling: Sampling | None = None,
    beams: int = BEAMS,
) -> list[str]:
    """One answer for each conversation, in their order; a conversation that is given several times is sampled several times.

    Args:
        conversations: messages with roles and contents, system prompt included.
        on_batch: is told indices and answers of each finished batch.
        sampling: None searches for the likeliest answer.
        beams: of that search; one is greedy.
    """
    prompts = [render_prompt(loaded, messages) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers = [""] * len(prompts)
    random_numbers = random_numbers_of(loaded, sampling)
    is_search = sampling is None and beams > 1
    together = max(1, batch_size // ROWS_OF_A_SEARCH) if is_search else batch_size
    options: dict[str, Any] = {
        "stop_ids": loaded.stop_ids,
        "pad_id": loaded.tokenizer.pad_token_id,
        "max_new_tokens": max_new_tokens,
    }
    for start in range(0, len(order), together):
        indices = order[start : start + together]
        rows = [prompts[index] for index in indices]
        if is_search:
            batch = search_batch(loaded.model, rows, **options, beams=beams)
        else:
            batch = decode_batch(loaded.model, rows, **options, sampling=sampling, random_numbers=random_numbers)
        for index, ids in zip(indices, batch, strict=True):
            answers[index] = loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()  # type: ignore[union-attr]
        if on_batch is not None:
            on_batch(indices, [answers[index] for index in indices])
    return answers


def random_numbers_of(loaded: LoadedModel, sampling: Sampling | None) -> torch.Generator | None:
    """Random numbers that start at the seed, and that nobody else draws from."""
    if sampling is None:
        return None
    import torch

    return torch.Generator(loaded.model.device).manual_seed(sampling.seed)


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
