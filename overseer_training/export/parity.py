"""Does llama.cpp say the same as the model that was trained?

Takes a GGUF file, the model folder it came from, and requests; gives how many have the same prompt tokens and the same
greedy answer as the merged fp32 weights in transformers. The server is xllamacpp's, in this process, on a port of
127.0.0.1, with the settings that a user of llama.cpp gets, greedy. Not covered: sampling, and
prompts longer than the context.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from overseer_training.errors import ModelError

MAX_NEW_TOKENS = 64
CONTEXT_TOKENS = 2048  # chosen: beyond any request and answer of this project, small enough for any machine
THREADS = 2
REQUEST_TIMEOUT_SECONDS = 600  # chosen: a busy 2-core machine made 3 tokens a second
QUIET = -1  # verbosity: nothing from llama.cpp on stderr


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


class LlamaServer:
    """A running llama.cpp server; use it through `llama_server`, which also ends it."""

    def __init__(self, address: str) -> None:
        self.address = address
        # A proxy from the environment must not see requests to this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to a request.

        Raises:
            ModelError: the server refused the request.
        """
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            message = error.read().decode(errors="replace")
            raise ModelError(f"llama.cpp refused {path}: {message}") from error

    def prompt_tokens(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids after the file's own chat template, as /v1/chat/completions would use them."""
        prompt = self.post("/apply-template", {"messages": list(messages)})["prompt"]
        tokens = self.post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        return [int(token) for token in tokens]

    def greedy_answer(self, prompt: Sequence[int], max_new_tokens: int) -> list[int]:
        """Token ids of the most likely answer, with the token that ended it where it ended."""
        settings = {"temperature": 0, "samplers": ["temperature"], "cache_prompt": False, "return_tokens": True}
        answer = self.post("/completion", {"prompt": list(prompt), "n_predict": max_new_tokens, **settings})
        return [int(token) for token in answer["tokens"]]


@contextlib.contextmanager
def llama_server(gguf_path: pathlib.Path, *, threads: int = THREADS, is_exact: bool = False) -> Iterator[LlamaServer]:
    """Load a GGUF into a llama.cpp server for the block; the server is gone afterwards.

    Args:
        threads: for computing; 1 on a busy machine, where threads that wait for each other lose far more than half.
        is_exact: compute attention in fp32, which users do not get. Measured on SmolLM2-135M, largest error of the 50
            likeliest tokens against fp64: 1e-4 nats for an f32 file this way; with llama.cpp's defaults (flash
            attention and an fp16 cache on a CPU) 1e-2 for f16 and 9e-2 for bf16. So a difference that stays when this
            is on is a defect of the file, and one that goes is rounding.

    Raises:
        ModelError: llama.cpp cannot load the file.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_path)
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.fit_params = False
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = QUIET
    if is_exact:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise ModelError(f"llama.cpp cannot load {gguf_path}: {error}") from error
    try:
        yield LlamaServer(server.listening_address)
    finally:
        # The server has no close(): its destructor stops the threads and frees the port.
        del server
        gc.collect()


def measure_parity(
    gguf_path: pathlib.Path,
    folder: pathlib.Path,
    requests: Sequence[Sequence[dict[str, str]]],
    *,
    max_new_tokens: int = MAX_NEW_TOKENS,
    threads: int = THREADS,
    is_exact: bool = False,
) -> Parity:
    """Compare llama.cpp on `gguf_path` with transformers on `folder`, request by request.

    Args:
        requests: one list of messages each, the system message included.
        threads, is_exact: as in `llama_server`.

    Raises:
        ModelError: either side cannot load the model.
    """
    from transformers import AutoTokenizer

    from overseer_training.export.merge import merge_adapter
    from overseer_training.export.model_folder import read_model_folder

    stop_tokens = read_model_folder(folder).stop_tokens
    model = merge_adapter(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    stop_ids = {tokenizer.convert_tokens_to_ids(token) for token in stop_tokens} | {tokenizer.eos_token_id} - {None}
    differences: list[Difference] = []
    prompt_tokens_equal = 0
    with llama_server(gguf_path, threads=threads, is_exact=is_exact) as server:
        for index, messages in enumerate(requests):
            expected_prompt = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)["input_ids"]
            actual_prompt = server.prompt_tokens(messages)
            if expected_prompt != actual_prompt:
                differences.append(_difference(index, "prompt", tokenizer, expected_prompt, actual_prompt, None))
                continue
            prompt_tokens_equal += 1
            expected = _greedy_answer(model, expected_prompt, sorted(stop_ids), max_new_tokens)
            actual = _until_stop(server.greedy_answer(expected_prompt, max_new_tokens), stop_ids)
            if (expected := _until_stop(expected, stop_ids)) != actual:
                margin = _margin_nats(model, expected_prompt, expected, actual)
                differences.append(_difference(index, "answer", tokenizer, expected, actual, margin))
    return Parity(len(requests), len(requests) - len(differences), prompt_tokens_equal, differences)


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
