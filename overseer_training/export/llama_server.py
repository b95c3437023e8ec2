"""A GGUF file in a llama.cpp server of this process, for as long as a block lasts; what parity and accuracy ask.

Takes a GGUF; gives greedy answers as token ids or text. The server is xllamacpp's, on a port of 127.0.0.1, with the
settings that a user of llama.cpp gets. Not covered: sampling, and prompts longer than the context.
"""

from __future__ import annotations

import contextlib
import gc
import json
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from overseer_training.errors import ModelError
from overseer_training.llama_cpp import start_server

CONTEXT_TOKENS = 2048  # chosen: beyond any request and answer of this project, small enough for any machine
THREADS = 2
REQUEST_TIMEOUT_SECONDS = 600  # chosen: a busy 2-core machine made 3 tokens a second


class LlamaServer:
    """A running llama.cpp server; use it through `llama_server`, which also ends it."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address
        self.key = key
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        # A proxy from the environment must not see requests to this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        """The JSON answer to a request.

        Raises:
            ModelError: the server refused the request.
        """
        body = json.dumps(value).encode()
        request = urllib.request.Request(self.address + path, body, self._headers)
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
        return [int(token) for token in self._complete(prompt, max_new_tokens)["tokens"]]

    def _complete(self, prompt: Sequence[int], max_new_tokens: int) -> dict[str, Any]:
        settings = {"temperature": 0, "samplers": ["temperature"], "cache_prompt": False, "return_tokens": True}
        return self.post("/completion", {"prompt": list(prompt), "n_predict": max_new_tokens, **settings})


@contextlib.contextmanager
def llama_server(
    gguf_path: pathlib.Path, *, threads: int = THREADS, is_exact: bool = False, is_open: bool = False
) -> Iterator[LlamaServer]:
    """Load a GGUF into a llama.cpp server for the block; the server is gone afterwards.

    Args:
        threads: for computing; 1 on a busy machine, where threads that wait for each other lose far more than half.
        is_exact: compute attention in fp32, which users do not get. Measured on SmolLM2-135M, largest error of the 50
            likeliest tokens against fp64: 1e-4 nats for an f32 file this way; with llama.cpp's defaults (flash
            attention and an fp16 cache on a CPU) 1e-2 for f16 and 9e-2 for bf16. So a difference that stays when this
            is on is a defect of the file, and one that goes is rounding.
        is_open: answer other programs of this machine too.

    Raises:
        ModelError: llama.cpp cannot load the file.
    """
    server, key = start_server(
        gguf_path, context_tokens=CONTEXT_TOKENS, threads=threads, is_exact=is_exact, is_open=is_open
    )
    try:
        yield LlamaServer(server.listening_address, key)
    finally:
        # The server has no close(): its destructor stops the threads and frees the port.
        del server
        gc.collect()
