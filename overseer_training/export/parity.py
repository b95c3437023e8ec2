"""Does llama.cpp say the same as the model that was trained?

Takes a GGUF file, the model folder it came from, and requests; gives how many have the same prompt tokens and the same
greedy answer as the merged fp32 weights in transformers.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

from overseer_training.export.llama_server import THREADS, llama_server

MAX_NEW_TOKENS = 64


@dataclasses.dataclass(frozen=True)
class Difference:
    """One request that llama.cpp answers otherwise.

    Attributes:
        index: position in the list of requests.
        part: whether the prompt tokens differ (then the answer is not compared) or the answer.
        position: the first token that differs, counted in that part.
        expected, actual: text in transformers and in llama.cpp.
        margin_nats: by how much fp32 prefers its own token over llama.cpp's at `position`; below about 0.1 it is
            rounding. None where the prompt differs.
    """

    index: int
    part: Literal["prompt", "answer"]
    position: int
    expected: str
    actual: str
    margin_nats: float | None


@dataclasses.dataclass(frozen=True)
class Parity:
    """n requests: `prompt_tokens_equal` render the same prompt tokens, `equal` also have the same answer tokens."""

    n: int
    equal: int
    prompt_tokens_equal: int
    differences: list[Difference]

    @property
    def value(self) -> float | None:
        return self.equal / self.n if self.n else None

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "value": self.value}


class TrainedAnswers:
    """Greedy answers of the trained weights to some requests: computed once, compared with any number of files."""

    def __init__(
        self, folder: pathlib.Path, requests: Sequence[Sequence[dict[str, str]]], max_new_tokens: int = MAX_NEW_TOKENS
    ) -> None:
        """Load `folder`, merged in fp32, and answer.

        Args:
            requests: one list of messages each, the system message included.

        Raises:
            ModelError: the model cannot be loaded or merged.
        """
        from transformers import AutoTokenizer

        from overseer_training.export.merge import merge_adapter
        from overseer_training.export.model_folder import read_model_folder

        self._model = merge_adapter(folder)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        stop_tokens = read_model_folder(folder).stop_tokens
        stop_ids = {self._tokenizer.convert_tokens_to_ids(token) for token in stop_tokens}
        self._stop_ids = stop_ids | {self._tokenizer.eos_token_id} - {None}
        self._max_new_tokens = max_new_tokens
        self._requests = requests
        self._prompts: list[list[int]] = [
            self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)["input_ids"]
            for messages in requests
        ]
        self._answers = [
            _until_stop(_greedy_answer(self._model, prompt, sorted(self._stop_ids), max_new_tokens), self._stop_ids)
            for prompt in self._prompts
        ]

    def compare(self, gguf_path: pathlib.Path, *, threads: int = THREADS, is_exact: bool = False) -> Parity:
        """How many answers of llama.cpp on `gguf_path` are the same.

        Args:
            threads, is_exact: as in `llama_server`.

        Raises:
            ModelError: llama.cpp cannot load the file.
        """
        differences: list[Difference] = []
        prompt_tokens_equal = 0
        with llama_server(gguf_path, threads=threads, is_exact=is_exact) as server:
            for index, messages in enumerate(self._requests):
                prompt, expected = self._prompts[index], self._answers[index]
                actual_prompt = server.prompt_tokens(messages)
                if prompt != actual_prompt:
                    differences.append(_difference(index, "prompt", self._tokenizer, prompt, actual_prompt, None))
                    continue
                prompt_tokens_equal += 1
                actual = _until_stop(server.greedy_answer(prompt, self._max_new_tokens), self._stop_ids)
                if expected != actual:
                    margin = _margin_nats(self._model, prompt, expected, actual)
                    differences.append(_difference(index, "answer", self._tokenizer, expected, actual, margin))
        return Parity(len(self._requests), len(self._requests) - len(differences), prompt_tokens_equal, differences)


def measure_parity(
    gguf_path: pathlib.Path,
    folder: pathlib.Path,
    requests: Sequence[Sequence[dict[str, str]]],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    threads: int = THREADS,
    is_exact: bool = False,
) -> Parity:
    """Compare llama.cpp on one file with transformers on `folder`; arguments and errors as in `TrainedAnswers`."""
    return TrainedAnswers(folder, requests, max_new_tokens).compare(gguf_path, threads=threads, is_exact=is_exact)


def _greedy_answer(model: Any, prompt: list[int], stop_ids: list[int], max_new_tokens: int) -> list[int]:
    import torch
    from transformers import GenerationConfig

    # Replaces the model's own: generate() fills gaps from it, and its sampling or penalties would not be greedy.
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stop_ids, pad_token_id=stop_ids[0]
    )
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=torch.ones_like(ids))
    return [int(token) for token in output[0, len(prompt) :]]


def _until_stop(tokens: list[int], stop_ids: set[int]) -> list[int]:
    """Tokens up to and with the first stop token: ending at the same place is part of the same answer."""
    ends = [position for position, token in enumerate(tokens) if token in stop_ids]
    return tokens[: ends[0] + 1] if ends else tokens


def _first_difference(expected: Sequence[int], actual: Sequence[int]) -> int:
    shared = min(len(expected), len(actual))
    return next((position for position in range(shared) if expected[position] != actual[position]), shared)


def _difference(
    index: int,
    part: Literal["prompt", "answer"],
    tokenizer: Any,
    expected: list[int],
    actual: list[int],
    margin: float | None,
) -> Difference:
    position = _first_difference(expected, actual)
    return Difference(index, part, position, tokenizer.decode(expected), tokenizer.decode(actual), margin)


def _margin_nats(model: Any, prompt: list[int], expected: list[int], actual: list[int]) -> float | None:
    import torch

    position = _first_difference(expected, actual)
    if position >= min(len(expected), len(actual)):
        return None
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + expected[:position]])).logits[0, -1]
    return float(logits[expected[position]] - logits[actual[position]])
