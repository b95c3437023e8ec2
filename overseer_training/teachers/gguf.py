"""A GGUF file as a teacher: llama.cpp in this process. Nothing is sent anywhere, and no other program needs to run."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from overseer_training.errors import ModelError
from overseer_training.guards.signatures import check_signature
from overseer_training.llama_cpp import start_server
from overseer_training.teachers import connection
from overseer_training.teachers.openai_compatible import chat_request, read_chat
from overseer_training.teachers.protocol import JsonSchema, Message, Reply

CONTEXT_TOKENS = 8192  # chosen: a cut manual page and the answer; see write.py


class GgufTeacher:
    """The model in a GGUF file; it has the file's own chat template."""

    is_local = True

    def __init__(self, path: pathlib.Path, *, threads: int | None = None, context_tokens: int = CONTEXT_TOKENS) -> None:
        """Load the file.

        Args:
            threads: for computing; None takes one for each core.

        Raises:
            ModelError: there is no such file, it is in an export that is not what was signed, or llama.cpp cannot load it.
        """
        try:
            with path.open("rb") as handle:
                is_gguf = handle.read(4) == b"GGUF"
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}; give the path of a GGUF file") from error
        if not is_gguf:
            raise ModelError(
                f"{path} is not a GGUF file; other single-file formats can execute code and are never opened"
            )
        check_signature(path.parent)
        self.name = "llama.cpp"
        self.model = path.name
        self._server, _ = start_server(path, context_tokens=context_tokens, threads=threads)

    def complete(
        self,
        messages: Sequence[Message],
        json_schema: JsonSchema | None = None,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
    ) -> Reply:
        """See `Teacher.complete`. It cannot be interrupted before `max_tokens`."""
        body = chat_request(self.model, messages, json_schema, max_tokens, temperature, seed)
        try:
            document = self._server.handle_chat_completions(body)
        except (ValueError, RuntimeError) as error:  # its words for a request that it does not take
            raise connection.status_error(self.name, 400, str(error)) from error
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            failure = document["error"]
            raise connection.status_error(self.name, int(failure.get("code", 500)), str(failure.get("message", "")))
        return read_chat(self.name, document, messages)

    def list_models(self) -> list[str]:
        """The one model of the file."""
        return [self.model]
