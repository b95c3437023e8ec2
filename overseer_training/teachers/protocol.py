"""What a teacher is: anything that completes a conversation, says whether texts stay on this machine, and fails in one line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from overseer_training.errors import OverseerError

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": …}
JsonSchema = Mapping[str, Any]
CHARACTERS_PER_TOKEN = 4  # chosen: for servers that do not count; English has about so many
LONGEST_DETAIL = 200  # characters of a server's own message that are shown
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class TeacherError(OverseerError):
    """A teacher cannot be used, or did not answer.

    Attributes:
        is_temporary: asking again later may help (overload, timeout, a connection that was cut).
        is_about_request: only this request is refused (too long, blocked); others may be answered.
        retry_after_seconds: how long the server asked to wait, or None.
    """

    exit_code = 8

    def __init__(
        self,
        message: str,
        *,
        is_temporary: bool = False,
        is_about_request: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary
        self.is_about_request = is_about_request
        self.retry_after_seconds = retry_after_seconds


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a teacher answered, with the tokens it read and wrote as its server counts them (else estimated)."""

    text: str
    prompt_tokens: int
    reply_tokens: int


class Teacher(Protocol):
    """A model that can be asked.

    Attributes:
        name: kind of teacher and where it is, for provenance; never holds a key.
        model: the model at that place.
        is_local: whether texts stay on this machine.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def is_local(self) -> bool: ...

    def complete(
        self,
        messages: Sequence[Message],
        json_schema: JsonSchema | None = None,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
    ) -> Reply:
        """Answer a conversation; with a schema, the text is meant to be JSON of that form (the caller checks).

        Raises:
            TeacherError: no answer; says whether to try again.
        """
        ...

    def list_models(self) -> list[str]:
        """Models that can be had at this place, sorted.

        Raises:
            TeacherError: it cannot be asked.
        """
        ...


def reply_of(text: str, messages: Sequence[Message], prompt_tokens: int | None, reply_tokens: int | None) -> Reply:
    """A reply whose token counts are those of the server where it counts."""
    characters = sum(len(message["content"]) for message in messages)
    return Reply(
        text,
        characters // CHARACTERS_PER_TOKEN + 1 if prompt_tokens is None else prompt_tokens,
        len(text) // CHARACTERS_PER_TOKEN + 1 if reply_tokens is None else reply_tokens,
    )


def one_line(text: str) -> str:
    """A server's message fit for a terminal: one short line without control characters."""
    line = " ".join(UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= LONGEST_DETAIL else line[:LONGEST_DETAIL] + "…"
