"""Any server with /v1/chat/completions: llama.cpp, vLLM, LM Studio, and this project's own `overseer serve`.

Not covered: streaming, tools, images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx

from overseer_training.errors import UsageError
from overseer_training.teachers import connection
from overseer_training.teachers.connection import Allow
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.protocol import JsonSchema, Message, Reply, TeacherError, reply_of


class OpenAICompatibleTeacher:
    """One model of one server."""

    def __init__(
        self,
        address: str,
        model: str | None = None,
        *,
        key: ApiKey | None = None,
        allow: Allow = connection.allow_none,
        timeout_seconds: float = connection.TIMEOUT_SECONDS,
    ) -> None:
        """Connect.

        Args:
            address: of the server, with or without /v1.
            model: None takes the only one that the server lists.

        Raises:
            UsageError: the address is none, or a key would travel unencrypted.
            TeacherError: the host is not allowed, the server cannot be reached, or it has several models and none was named.
        """
        address = address.rstrip("/").removesuffix("/v1")
        host = connection.host_of(address)
        self.name = f"the server at {address}"
        self.is_local = connection.is_loopback(host)
        connection.check_destination(self.name, host, allow)
        if key is not None and not self.is_local and not address.startswith("https://"):
            raise UsageError(f"{self.name} would get the key unencrypted; give its https:// address")
        self._key = key
        self._client = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {key.reveal()}"} if key is not None else None,
            timeout=connection.timeouts(timeout_seconds),
            follow_redirects=False,
            trust_env=connection.may_use_proxy(host),
        )
        self.model = model or self._only_model()

    def complete(
        self,
        messages: Sequence[Message],
        json_schema: JsonSchema | None = None,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
    ) -> Reply:
        """See `Teacher.complete`."""
        body = chat_request(self.model, messages, json_schema, max_tokens, temperature, seed)
        return read_chat(self.name, self._ask("POST", "/v1/chat/completions", body), messages)

    def list_models(self) -> list[str]:
        """See `Teacher.list_models`."""
        try:
            return sorted(str(entry["id"]) for entry in self._ask("GET", "/v1/models")["data"])
        except (KeyError, TypeError) as error:
            raise connection.unreadable(self.name, "no list of models") from error

    def _only_model(self) -> str:
        models = self.list_models()
        if len(models) != 1:
            raise TeacherError(f"{self.name} has {len(models)} models ({', '.join(models)}); name one of them")
        return models[0]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        with connection.translated_failures(self.name):
            response = self._client.request(method, path, json=body)
        content = response.text if self._key is None else self._key.redact(response.text)
        if response.status_code >= 300:
            wait = response.headers.get("Retry-After")
            raise connection.status_error(self.name, response.status_code, _detail(content), wait)
        try:
            return json.loads(content)
        except ValueError as error:
            raise connection.unreadable(self.name, "something that is not JSON") from error


def chat_request(
    model: str,
    messages: Sequence[Message],
    json_schema: JsonSchema | None,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> dict[str, Any]:
    """The body of a request to /v1/chat/completions."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in messages],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    if json_schema is not None:
        schema = {"name": "answer", "schema": dict(json_schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def read_chat(name: str, document: Any, messages: Sequence[Message]) -> Reply:
    """The reply in an answer of /v1/chat/completions.

    Raises:
        TeacherError: it is no such answer.
    """
    try:
        text = document["choices"][0]["message"]["content"] or ""
        usage = document.get("usage") or {}
        return reply_of(str(text), messages, usage.get("prompt_tokens"), usage.get("completion_tokens"))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise connection.unreadable(name, "something that is no chat completion") from error


def _detail(content: str) -> str:
    """The server's own words about a failure, whatever form they have."""
    try:
        error = json.loads(content)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return content
