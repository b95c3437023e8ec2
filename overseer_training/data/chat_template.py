"""Renders conversations as a tokenizer's chat template does, a hundred times as fast for many that are alike.

What a template puts around the contents depends on the roles alone in nearly all templates: it is rendered once for each sequence
of roles, with marks for contents. Conversations where that may not hold are rendered by the template itself: contents that begin
or end with white space, and sequences of roles for which a comparison with the template, of the first and then of every hundredth
conversation, has failed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Message = dict[str, str]
COMPARE_EVERY = 100


class ChatTemplate:
    """The chat template of `tokenizer`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[tuple[object, ...], list[str] | None] = {}
        self._counts: dict[tuple[object, ...], int] = {}

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The text that the tokenizer's template makes of `messages`."""
        kind = (add_generation_prompt, *(message["role"] for message in messages))
        if kind not in self._pieces:
            self._pieces[kind] = self._find_pieces(messages, add_generation_prompt)
        pieces = self._pieces[kind]
        contents = [message["content"] for message in messages]
        if pieces is None or any(content != content.strip() for content in contents):
            return self._render_slowly(messages, add_generation_prompt)
        parts = [pieces[0]]
        for content, piece in zip(contents, pieces[1:], strict=True):
            parts += (content, piece)
        text = "".join(parts)
        count = self._counts[kind] = self._counts.get(kind, -1) + 1
        if count % COMPARE_EVERY == 0:
            expected = self._render_slowly(messages, add_generation_prompt)
            if text != expected:
                self._pieces[kind] = None
                return expected
        return text

    def _render_slowly(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=add_generation_prompt, tokenize=False
        )
        return text

    def _find_pieces(self, messages: Sequence[Message], add_generation_prompt: bool) -> list[str] | None:
        """What stands before, between and behind the contents; None where they do not come out once and in order."""
        marks = [f"\ue000{position}\ue001" for position in range(len(messages))]
        marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
        rest, pieces = self._render_slowly(marked, add_generation_prompt), []
        for mark in marks:
            if rest.count(mark) != 1:
                return None
            piece, _, rest = rest.partition(mark)
            pieces.append(piece)
        return [*pieces, rest]
