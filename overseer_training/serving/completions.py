"""The documents of /v1/chat/completions: reads a request, and writes answers, streams and errors in OpenAI's form.

Fields that are not known are ignored, as clients send many. Fields that would change the answer and cannot be honoured are refused.
Not covered: tools, images, JSON schemas, log-probabilities, several answers to one request.

Source: the OpenAI API reference, "Chat Completions"; differs in the field `overseer`, the verdict on the command.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from overseer_training.errors import UsageError
from overseer_training.models.generate import MAX_NEW_TOKENS
from overseer_training.prompts import SYSTEM_PROMPTS, neutral
from overseer_training.records import Platform
from overseer_training.serving.backends import CONTEXT_TOKENS, Message
from overseer_training.serving.reply import Reply

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}  # OpenAI's newer name for system
HOTTEST, LARGEST_SEED, MOST_STOPS = 2.0, 2**32 - 1, 4
NOT_OFFERED = ("tools", "functions", "logprobs", "audio", "logit_bias", "frequency_penalty", "presence_penalty")


class RequestError(UsageError):
    """A request that cannot be honoured; `parameter` is the field that is wrong, or None."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """A request that can be honoured; `messages` begin with a system prompt."""

    messages: list[Message]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stops: tuple[str, ...]
    is_streamed: bool
    wants_usage: bool


def read_chat_request(body: bytes, platform: Platform) -> ChatRequest:
    """The request in `body`; one without a system prompt gets the one that the model was trained with for `platform`.

    Raises:
        RequestError: it is not JSON, a field is wrong, or it asks for what is not offered.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON") from error
    if not isinstance(document, dict):
        raise RequestError("the body is not a JSON object")
    for name in NOT_OFFERED:
        if document.get(name):
            raise RequestError(f"{name!r} is not offered", name)
    form = document.get("response_format")
    if form is not None and form != {"type": "text"}:
        raise RequestError("'response_format' is not offered, other than text", "response_format")
    _number(document, "n", 1, 1, 1)
    if not isinstance(document.get("model") or "", str):
        raise RequestError("'model' must be a text", "model")
    limit = "max_tokens" if document.get("max_completion_tokens") is None else "max_completion_tokens"
    options = document.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RequestError("'stream_options' must be an object", "stream_options")
    return ChatRequest(
        messages=_messages(document, platform),
        max_tokens=min(int(_number(document, limit, MAX_NEW_TOKENS, 1)), CONTEXT_TOKENS),
        temperature=_number(document, "temperature", 0, 0, HOTTEST, is_whole=False),
        top_p=_number(document, "top_p", 1, 0, 1, is_whole=False) or 1e-6,  # 0 means the likeliest token alone
        seed=int(_number(document, "seed", 0)) & LARGEST_SEED,
        stops=_stops(document.get("stop")),
        is_streamed=_flag(document, "stream"),
        wants_usage=_flag(options, "include_usage"),
    )


def completion(identity: str, model: str, created: int, reply: Reply) -> dict[str, Any]:
    """The answer to a request that is not streamed."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.content},
        "finish_reason": _finish_reason(reply),
        "logprobs": None,
    }
    document = _document("chat.completion", identity, model, created, [choice])
    return {**document, "usage": _usage(reply), "overseer": dataclasses.asdict(reply.verdict)}


def chunks(identity: str, model: str, created: int, reply: Reply, *, wants_usage: bool) -> Iterator[dict[str, Any]]:
    """The same as a stream; its last chunk with a choice carries the verdict."""

    def chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _document("chat.completion.chunk", identity, model, created, [choice])

    yield chunk({"role": "assistant", "content": ""}, None)
    yield chunk({"content": reply.content}, None)
    yield {**chunk({}, _finish_reason(reply)), "overseer": dataclasses.asdict(reply.verdict)}
    if wants_usage:
        yield {**_document("chat.completion.chunk", identity, model, created, []), "usage": _usage(reply)}


def error_document(message: str, kind: str, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    """A failure; `kind` is one of OpenAI's error types."""
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def _document(kind: str, identity: str, model: str, created: int, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": created, "model": model, "choices": choices}


def _finish_reason(reply: Reply) -> str:
    return "length" if reply.answer.ending == "length" else "stop"


def _usage(reply: Reply) -> dict[str, int]:
    asked, answered = reply.answer.prompt_tokens, reply.answer.answer_tokens
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _messages(document: dict[str, Any], platform: Platform) -> list[Message]:
    given = document.get("messages")
    if not isinstance(given, list) or not given:
        raise RequestError("'messages' must be a list of {role, content}", "messages")
    messages = [_message(message, f"messages[{number}]") for number, message in enumerate(given)]
    if messages[-1]["role"] != "user":
        raise RequestError("the last of 'messages' must be the user's", "messages")
    if all(message["role"] != "system" for message in messages):
        messages.insert(0, {"role": "system", "content": SYSTEM_PROMPTS[platform]})
    return messages


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or message["role"] not in ROLES:
        raise RequestError(f"{place} must have a role of {', '.join(ROLES)}", place)
    content = message.get("content")
    if isinstance(content, list):  # OpenAI's other form, in parts
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise RequestError(f"{place} must have text alone as its content", place)
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise RequestError(f"{place} must have a text as its content", place)
    try:
        content.encode()
    except UnicodeEncodeError as error:  # half of a character, written as \\ud800
        raise RequestError(f"{place} has a content that is not text", place) from error
    role = ROLES[message["role"]]
    return {"role": role, "content": neutral(content) if role == "user" else content}


def _number(
    document: dict[str, Any],
    name: str,
    default: float,
    low: float | None = None,
    high: float | None = None,
    *,
    is_whole: bool = True,
) -> float:
    value = document.get(name)
    if value is None:
        return default
    kinds = int if is_whole else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    # Written so that NaN, which Python's JSON reads, is outside.
    if not is_number or not (low is None or value >= low) or not (high is None or value <= high):
        limits = (
            f" of at least {low:g}"
            if high is None and low is not None
            else f" from {low:g} to {high:g}"
            if low is not None
            else ""
        )
        raise RequestError(f"{name!r} must be a {'whole ' if is_whole else ''}number{limits}", name)
    return float(value) if not is_whole else value  # type: ignore[no-any-return]


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if not isinstance(value, bool | None):
        raise RequestError(f"{name!r} must be true or false", name)
    return bool(value)


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise RequestError(f"'stop' must be a text or a list of at most {MOST_STOPS}", "stop")
    return tuple(stops)
