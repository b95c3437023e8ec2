"""Batch prediction from and to JSON lines; a run that was cut off goes on where it stopped.

Input lines are `{"id", "query" | "messages", "system"?}`, output lines `{"id", "command", "text"}`.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from overseer_training.errors import DataError
from overseer_training.models.generate import extract_command, generate
from overseer_training.models.load import load_trained
from overseer_training.prompts import SYSTEM_PROMPTS, neutral

ROLES = ("system", "user", "assistant")


def predict_file(
    model: pathlib.Path, source: pathlib.Path, target: pathlib.Path, *, batch_size: int, max_new_tokens: int
) -> int:
    """Answer every request in `source` whose id is not in `target` yet; append answers as batches finish.

    Args:
        target: a file, which is made where it is missing, in a folder that exists.

    Returns:
        How many answers were written.

    Raises:
        DataError: a line cannot be read; the message lists them, and nothing is loaded.
    """
    if batch_size < 1 or max_new_tokens < 1:
        raise DataError("--batch-size and --max-new-tokens must be at least 1")
    requests = _read_requests(source)
    done = _read_done(target)
    waiting = [(identity, messages) for identity, messages in requests if json.dumps(identity) not in done]
    if not waiting:
        return 0
    loaded = load_trained(model)
    written = 0
    with target.open("a") as output:

        def write(indices: list[int], texts: list[str]) -> None:
            nonlocal written
            for index, text in zip(indices, texts, strict=True):
                line = {"id": waiting[index][0], "command": extract_command(text), "text": text}
                output.write(json.dumps(line, ensure_ascii=False) + "\n")
            output.flush()
            written += len(indices)

        conversations = [messages for _, messages in waiting]
        generate(loaded, conversations, batch_size=batch_size, max_new_tokens=max_new_tokens, on_batch=write)
    return written


def _read_requests(source: pathlib.Path) -> list[tuple[Any, list[dict[str, str]]]]:
    try:
        lines = source.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read: {error}") from error
    requests = []
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
            requests.append((document["id"], _messages(document)))
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"line {number}: {error if not isinstance(error, KeyError) else f'no {error}'}")
    if problems:
        raise DataError(
            f"{source}: "
            + "; ".join(problems[:10])
            + '; a line is {"id": …, "query": "…"} or {"id": …, "messages": […]}'
        )
    return requests


def _messages(document: dict[str, Any]) -> list[dict[str, str]]:
    system = document.get("system", SYSTEM_PROMPTS["linux"])
    if "messages" not in document:
        if not isinstance(document["query"], str):
            raise ValueError("'query' must be a text")
        return [{"role": "system", "content": system}, {"role": "user", "content": neutral(document["query"])}]
    messages = document["messages"]
    is_valid = (
        isinstance(messages, list)
        and messages
        and all(
            isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)
            for message in messages
        )
    )
    if not is_valid:
        raise ValueError("'messages' must be a list of {role, content}")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    said = [(message["role"], message["content"]) for message in messages]
    return [{"role": role, "content": neutral(content) if role == "user" else content} for role, content in said]


def _read_done(target: pathlib.Path) -> set[str]:
    """Ids already answered; a torn last line is cut off."""
    if not target.exists():
        return set()
    done = set()
    kept = 0
    content = target.read_bytes()
    for line in content.splitlines(keepends=True):
        try:
            done.add(json.dumps(json.loads(line)["id"]))
        except (ValueError, KeyError, TypeError) as error:
            if line.endswith(b"\n"):
                raise DataError(f"{target} exists and is not a file of answers; give another --output") from error
            break
        kept += len(line)
    if kept < len(content):
        with target.open("r+b") as handle:
            handle.truncate(kept)
    return done
