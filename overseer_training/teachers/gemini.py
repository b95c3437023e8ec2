"""Gemini models of Google, asked through its official client. Texts leave this machine: the policy must allow the host.

The key goes into one request header. Errors of the client are not chained, since a server may repeat the key in its words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import httpx
from google import genai
from google.genai import errors, types

from overseer_training.teachers import connection
from overseer_training.teachers.connection import Allow
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.protocol import JsonSchema, Message, Reply, TeacherError, one_line, reply_of

ADDRESS = "https://generativelanguage.googleapis.com"
MODEL = "gemini-flash-latest"


class GeminiTeacher:
    """One Gemini model."""

    def __init__(
        self,
        key: ApiKey,
        model: str = MODEL,
        address: str = ADDRESS,
        *,
        allow: Allow = connection.allow_none,
        timeout_seconds: float = connection.TIMEOUT_SECONDS,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Raises:
            UsageError: the address is none.
            TeacherError: the host is not allowed.
        """
        host = connection.host_of(address)
        self.name = "Gemini" if address == ADDRESS else f"Gemini at {address}"
        self.model = model.removeprefix("models/")
        self.is_local = connection.is_loopback(host)
        connection.check_destination(self.name, host, allow)
        self._key = key
        # Address and kind of service are given, so that no variable of the environment sends texts elsewhere.
        self._client = genai.Client(
            api_key=key.reveal(),
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=address,
                timeout=int(timeout_seconds * 1000),
                httpx_client=httpx.Client(follow_redirects=False, trust_env=connection.may_use_proxy(host)),
            ),
        )

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
        system = "\n".join(message["content"] for message in messages if message["role"] == "system")
        contents: list[types.ContentUnionDict] = [
            types.Content(
                role="model" if message["role"] == "assistant" else "user", parts=[types.Part(text=message["content"])]
            )
            for message in messages
            if message["role"] != "system"
        ]
        settings = types.GenerateContentConfig(
            system_instruction=system or None,
            max_output_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            response_mime_type="application/json" if json_schema is not None else None,
            response_json_schema=dict(json_schema) if json_schema is not None else None,
        )
        with self._translated():
            response = self._client.models.generate_content(model=self.model, contents=contents, config=settings)
            text, usage = response.text, response.usage_metadata
        if not response.candidates and response.prompt_feedback is None:
            raise connection.unreadable(self.name, "something that is no answer of Gemini")
        if not text:
            raise TeacherError(f"{self.name} gave no answer ({_reason(response)})", is_about_request=True)
        prompt_tokens = usage.prompt_token_count if usage else None
        # Tokens of thinking are paid for like those of the answer.
        reply_tokens = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0) if usage else None
        return reply_of(self._key.redact(text), messages, prompt_tokens, reply_tokens)

    def list_models(self) -> list[str]:
        """See `Teacher.list_models`."""
        with self._translated():
            return sorted(str(model.name).removeprefix("models/") for model in self._client.models.list())

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        failure: TeacherError
        try:
            with connection.translated_failures(self.name):
                yield
            return
        except errors.APIError as error:
            wait = error.response.headers.get("Retry-After") if hasattr(error.response, "headers") else None
            detail = self._key.redact(str(error.message or error.status or ""))
            failure = connection.status_error(self.name, error.code, detail, wait)
            if error.code == 400 and "key" in detail.lower():  # what Gemini says of a wrong key
                failure = TeacherError(f"{self.name} refused the key: {one_line(detail)}; check it, or make a new one")
        except (ValueError, AttributeError, TypeError):  # the client trusts the form of what it is sent
            failure = connection.unreadable(self.name, "something that is no answer of Gemini")
        raise failure from None


def _reason(response: types.GenerateContentResponse) -> str:
    """Why there is no text: blocked, cut off, or nothing said."""
    feedback, candidates = response.prompt_feedback, response.candidates
    if feedback is not None and feedback.block_reason is not None:
        return f"blocked: {feedback.block_reason.name}"
    if candidates and candidates[0].finish_reason is not None:
        return f"ended with {candidates[0].finish_reason.name}"
    return "empty"
