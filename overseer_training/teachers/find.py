"""From what a person names to a teacher: `gemma3n`, `ollama:NAME`, `gemini:NAME`, `http://HOST:PORT[#MODEL]`, `FILE.gguf`.

Clients are imported when they are needed, so that a run without teachers needs none of them.
"""

from __future__ import annotations

import pathlib

from overseer_training.errors import UsageError
from overseer_training.teachers.connection import TIMEOUT_SECONDS, Allow, allow_none
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.protocol import Teacher


def open_teacher(
    name: str,
    *,
    key: ApiKey | None = None,
    allow: Allow = allow_none,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Teacher:
    """The teacher that `name` means; a bare name is a model of the Ollama server of this machine.

    Args:
        key: for Gemini, or for a server that wants one.
        allow: which hosts besides this machine may be sent texts.

    Raises:
        UsageError: the name means no teacher, or Gemini has no key.
        TeacherError: it is not allowed, or cannot be reached.
        ModelError: the GGUF file cannot be loaded.
    """
    kind, _, rest = name.partition(":")
    if not name.strip() or name == "ollama:":
        raise UsageError("name a teacher: MODEL or ollama:MODEL, gemini:MODEL, http://HOST:PORT#MODEL, or FILE.gguf")
    if kind == "gemini" or name.startswith("gemini-"):
        from overseer_training.teachers.gemini import MODEL, GeminiTeacher

        if key is None:
            raise UsageError(f"{name} needs an API key; set GEMINI_API_KEY")
        model = name if name.startswith("gemini-") else rest or MODEL
        return GeminiTeacher(key, model, allow=allow, timeout_seconds=timeout_seconds)
    if kind in ("http", "https"):
        from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher

        address, _, model = name.partition("#")
        return OpenAICompatibleTeacher(address, model or None, key=key, allow=allow, timeout_seconds=timeout_seconds)
    if name.endswith(".gguf"):
        from overseer_training.teachers.gguf import GgufTeacher

        return GgufTeacher(pathlib.Path(name).expanduser())
    from overseer_training.teachers.ollama import OllamaTeacher

    return OllamaTeacher(rest if kind == "ollama" else name, allow=allow, timeout_seconds=timeout_seconds)
