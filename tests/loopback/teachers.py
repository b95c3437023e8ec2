"""A server that speaks as Ollama, as an OpenAI-compatible server and as Gemini, and fails on demand."""

from __future__ import annotations

import dataclasses
import http.server
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

SLOW_SECONDS = 0.8


@dataclasses.dataclass(frozen=True)
class Chat:
    """A request, whichever of the three protocols it came in.

    Attributes:
        settings: json_schema, max_tokens, temperature and seed, as far as they were given.
    """

    messages: list[dict[str, str]]
    settings: dict[str, Any]


class FakeServer(http.server.ThreadingHTTPServer):
    """Answers every chat with `answer(text of the last message)`; `faults` are used up first, one a request.

    A fault is a status, or one of "malformed", "shapeless", "slow", "cut", "dead" (which stays); None lets one request through.

    Attributes:
        model_bytes: the models it lists.
        chats: bodies of the requests that were answered.
        headers: of all requests.
    """

    daemon_threads = True

    def __init__(
        self, port: int = 0, *, model_bytes: Mapping[str, int], certificate: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        if certificate is not None:
            self.socket = certificate.wrap_socket(self.socket, server_side=True)
        self.answer: Callable[[str], str] = lambda text: "fine"
        self.faults: list[int | str | None] = []
        self.headers_of_faults: dict[str, str] = {}
        self.words_of_faults = "the server's words"
        self.slow_seconds = SLOW_SECONDS
        self.model_bytes = dict(model_bytes)
        self.chats: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def reply(self, chat: Chat) -> str:
        """What the model says; one that asks a real model overrides this."""
        return self.answer(chat.messages[-1]["content"])

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
        if self.server.faults and fault != "dead":
            self.server.faults.pop(0)
        if fault in ("cut", "dead"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            return
        if fault == "slow":
            time.sleep(self.server.slow_seconds)
        if isinstance(fault, int):
            words = self.server.words_of_faults
            error = words if self.path == "/api/chat" else {"message": words, "code": fault}
            self._send(fault, json.dumps({"error": error}))
            return
        if fault in ("malformed", "shapeless"):
            self._send(200, '{"message": {' if fault == "malformed" else "[1, 2]")
            return
        self.server.chats.append(body)
        text = self.server.reply(_chat_of(self.path, body))
        if self.path.endswith(":generateContent"):
            counts = {"promptTokenCount": 7, "candidatesTokenCount": 5}
            content = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
            self._send(200, json.dumps({"candidates": [content], "usageMetadata": counts}))
            return
        message = {"role": "assistant", "content": text}
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


def _chat_of(path: str, body: dict[str, Any]) -> Chat:
    if path.endswith(":generateContent"):
        settings = body.get("generationConfig", {})
        told = [("system", body["systemInstruction"])] if "systemInstruction" in body else []
        said = [("assistant" if part.get("role") == "model" else "user", part) for part in body["contents"]]
        messages = [{"role": role, "content": content["parts"][0]["text"]} for role, content in (*told, *said)]
        names = {"responseJsonSchema": "json_schema", "maxOutputTokens": "max_tokens"}
    elif path == "/api/chat":
        messages, settings = body["messages"], {**body.get("options", {}), "format": body.get("format")}
        names = {"format": "json_schema", "num_predict": "max_tokens"}
    else:
        wanted = body.get("response_format", {}).get("json_schema", {}).get("schema")
        messages, settings, names = body["messages"], {**body, "json_schema": wanted}, {}
    known = {names.get(name, name): value for name, value in settings.items() if value is not None}
    return Chat(
        messages, {name: known[name] for name in ("json_schema", "max_tokens", "temperature", "seed") if name in known}
    )
