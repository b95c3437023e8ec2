"""Start llama.cpp in this process over one GGUF file.

Takes the file and how to load it; gives the library's `Server`. It always listens on a port of 127.0.0.1, which nobody but
the caller gets past unless it is opened.
"""

from __future__ import annotations

import http.client
import pathlib
import secrets
import time
import urllib.parse
from typing import Any

from overseer_training.errors import ModelError

QUIET = -1  # verbosity: nothing from llama.cpp on stderr
LISTENING_SECONDS = 30.0  # chosen: the thread that listens is there already, and needs milliseconds


def start_server(
    path: pathlib.Path,
    *,
    context_tokens: int,
    threads: int | None,
    parallel: int = 1,
    is_exact: bool = False,
    is_open: bool = False,
) -> tuple[Any, str]:
    """Load `path` for one request at a time.

    Args:
        context_tokens: prompt and answer together.
        threads: for computing; None takes llama.cpp's own choice.
        parallel: how many answers to a request can be asked for; they share the context.
        is_exact: compute attention without flash attention, with an fp32 cache.
        is_open: answer requests that bear no key.

    Returns:
        the `xllamacpp.Server`, which stops when it is deleted; and the key that requests to its port must bear.

    Raises:
        ModelError: llama.cpp cannot load the file.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens
    params.n_parallel = parallel
    params.kv_unified = parallel > 1
    params.n_gpu_layers = 0
    if threads is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup = False
    params.fit_params = False
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = QUIET
    if is_exact:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    key = secrets.token_urlsafe()
    params.api_keys = [] if is_open else [key]
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise ModelError(f"llama.cpp cannot load {path}: {error}") from error
    _wait_until_listening(server.listening_address)
    return server, key


def _wait_until_listening(address: str) -> None:
    """Until the server has answered once.

    One that is deleted before its thread has begun to listen is told to stop too early: the thread never hears of it, and
    the deletion waits for it for ever (xllamacpp 2026.10: 13 of 30 programs that loaded a model and ended).
    """
    parts = urllib.parse.urlsplit(address)
    assert parts.hostname is not None
    deadline = time.monotonic() + LISTENING_SECONDS
    while True:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=LISTENING_SECONDS)
        try:
            connection.request("GET", "/health", headers={"Connection": "close"})
            connection.getresponse().read()
            return
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise ModelError(f"llama.cpp was loaded and does not answer on {address}") from error
            time.sleep(0.005)
        finally:
            connection.close()
