"""Models that an Ollama server runs, asked through its official client: list, chat, answers held to a schema.

A server on this machine may still send texts away: its cloud models are pointers to ollama.com. They count as remote.
"""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Iterator, Sequence

import ollama

from overseer_training.teachers import connection
from overseer_training.teachers.connection import Allow
from overseer_training.teachers.protocol import JsonSchema, Message, Reply, TeacherError, reply_of

PORT = 11434
ADDRESS = f"http://127.0.0.1:{PORT}"
LISTENING_ON_ALL = ("0.0.0.0", "::")  # what a server is told to listen on is no place to connect to
CLOUD_HOST = "ollama.com"
LEAST_BYTES_OF_WEIGHTS = (
    1_000_000  # chosen: a cloud model is listed with a size below 1 kB, the smallest real one has MB
)
CONTEXT_TOKENS = (
    8192  # Ollama cuts longer prompts without a word, by default already at 4,096 (chosen: write.py stays below)
)


def find_address(given: str | None = None) -> str:
    """The address of a server: the one given, else $OLLAMA_HOST as Ollama's own programs read it, else this machine."""
    place = given or os.environ.get("OLLAMA_HOST", "").strip() or ADDRESS
    parts = urllib.parse.urlsplit(place if "://" in place else f"http://{place}")
    host = parts.hostname or "127.0.0.1"
    try:
        port = parts.port or (None if "://" in place else PORT)
    except ValueError:
        return place  # no port that can be; refused where the address is read
    host = "127.0.0.1" if host in LISTENING_ON_ALL else f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


class OllamaTeacher:
    """One model of one Ollama server."""

    def __init__(
        self,
        model: str,
        address: str | None = None,
        *,
        allow: Allow = connection.allow_none,
        timeout_seconds: float = connection.TIMEOUT_SECONDS,
    ) -> None:
        """Connect, and see that the model is there.

        Raises:
            UsageError: the address is none.
            TeacherError: the host or a cloud model is not allowed, the server cannot be reached, or has no such model.
        """
        address = find_address(address)
        host = connection.host_of(address)
        self.name = f"Ollama at {address}"
        connection.check_destination(self.name, host, allow)
        self._client = ollama.Client(
            address,
            timeout=connection.timeouts(timeout_seconds),
            follow_redirects=False,
            trust_env=connection.may_use_proxy(host),
        )
        bytes_of = self._list()
        self.model = next((name for name in (model, f"{model}:latest") if name in bytes_of), model)
        if self.model not in bytes_of:
            raise TeacherError(
                f"{self.name} has no model {model!r}; get it with: ollama pull {model} "
                f"(there: {', '.join(sorted(bytes_of)) or 'none'})"
            )
        tag = self.model.rpartition(":")[2]
        is_cloud = tag == "cloud" or tag.endswith("-cloud") or bytes_of[self.model] < LEAST_BYTES_OF_WEIGHTS
        self.is_local = connection.is_loopback(host) and not is_cloud
        if is_cloud:
            connection.check_destination(f"the cloud model {self.model}", CLOUD_HOST, allow)

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
        options = {"num_predict": max_tokens, "temperature": temperature, "seed": seed, "num_ctx": CONTEXT_TOKENS}
        with self._translated():
            response = self._client.chat(
                self.model, messages, format=dict(json_schema) if json_schema is not None else None, options=options
            )
        return reply_of(response.message.content or "", messages, response.prompt_eval_count, response.eval_count)

    def list_models(self) -> list[str]:
        """See `Teacher.list_models`."""
        return sorted(self._list())

    def _list(self) -> dict[str, int]:
        """Name -> bytes on disk."""
        with self._translated():
            return {str(entry.model): int(entry.size or 0) for entry in self._client.list().models if entry.model}

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with connection.translated_failures(self.name):
                yield
        except ollama.ResponseError as error:
            raise connection.status_error(self.name, error.status_code, str(error.error)) from error
        except ConnectionError as error:
            raise TeacherError(
                f"{self.name} cannot be reached; start it with: ollama serve", is_temporary=True
            ) from error
        except (ValueError, AttributeError, TypeError) as error:  # the client trusts the form of what it is sent
            raise connection.unreadable(self.name, "something that is no answer of Ollama") from error
