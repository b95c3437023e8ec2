"""A GGUF that answers with llama.cpp in this process: the likeliest answer that can be found, or one that is drawn.

Takes conversations, one at a time; gives texts with their log-probabilities. llama.cpp has no beam search, so the likeliest answer is looked
for among the greedy one and a few that are drawn: of 160 requests from outside that has 24.2 % right where greedy answers have 20.6 % and four
beams 25.6 % (docs/results.md).
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from overseer_training.errors import DataError, ModelError
from overseer_training.llama_cpp import start_server
from overseer_training.models.decoding import Sampling

Ending = Literal["stop", "length", "cancelled"]
DRAWN = 3  # answers beside the greedy one; chosen
DRAWN_AS = Sampling(temperature=0.7, top_p=0.95, seed=0)  # chosen
MOST_OF_ALL = math.log(0.5)  # nats: no other answer can be likelier then


class PromptTooLongError(DataError):
    """The conversation leaves no room for an answer in the model's window."""

    def __init__(self, window_tokens: int) -> None:
        super().__init__(f"the conversation does not fit the model's window of {window_tokens} tokens; shorten it")


@dataclasses.dataclass(frozen=True)
class Completion:
    """What the model said.

    Attributes:
        ending: "length" where the token limit or the window cut it off.
        log_probability: of its tokens, nats.
    """

    text: str
    prompt_tokens: int
    answer_tokens: int
    ending: Ending
    log_probability: float


class LlamaFile:
    """A GGUF in llama.cpp; not to be asked from two threads at once."""

    def __init__(self, path: pathlib.Path, *, context_tokens: int, threads: int) -> None:
        """Load the file.

        Raises:
            ModelError: llama.cpp cannot load it.
        """
        self._server, _ = start_server(path, context_tokens=context_tokens, threads=threads, parallel=DRAWN)

    def find_likeliest(
        self,
        messages: Sequence[Mapping[str, str]],
        max_new_tokens: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Completion:
        """The greedy answer where most of all answers are that one, else the likeliest of it and of some that are drawn.

        Args:
            should_stop: asked after each token of the first answer; True ends it as cancelled.

        Raises:
            PromptTooLongError: `messages` do not fit.
            ModelError: llama.cpp failed on them.
        """
        first = self._follow(messages, max_new_tokens, {"temperature": 0.0}, should_stop)
        if first.ending != "stop" or first.log_probability >= MOST_OF_ALL:
            return first
        several = [{"temperature": 0.0}, {**dataclasses.asdict(DRAWN_AS), "n": DRAWN}]
        found = [one for options in several for one in self._complete(messages, max_new_tokens, options)]
        return max(found, key=lambda one: (one.ending == "stop", one.log_probability))

    def draw(
        self,
        messages: Sequence[Mapping[str, str]],
        max_new_tokens: int,
        sampling: Sampling,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Completion:
        """An answer that `sampling` decides. Raises what `find_likeliest` does."""
        return self._follow(messages, max_new_tokens, dataclasses.asdict(sampling), should_stop)

    def _follow(
        self,
        messages: Sequence[Mapping[str, str]],
        max_new_tokens: int,
        options: Mapping[str, Any],
        should_stop: Callable[[], bool],
    ) -> Completion:
        """One answer, token by token; its log-probability is without the token that ended it, which llama.cpp does not tell then."""
        is_cancelled = False

        def ask_once() -> bool:
            nonlocal is_cancelled
            is_cancelled = is_cancelled or should_stop()
            return is_cancelled

        streamed = {**options, "stream": True, "stream_options": {"include_usage": True}}
        pieces = self._ask(messages, max_new_tokens, streamed, ask_once)
        choices = [choice for piece in pieces for choice in piece["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        used: Mapping[str, int] = next((piece["usage"] for piece in reversed(pieces) if piece.get("usage")), {})
        return Completion(
            text.strip(),
            used.get("prompt_tokens", 0),
            used.get("completion_tokens", 0),
            "cancelled" if is_cancelled else _ending_of(choices),
            sum(_log_probabilities(choices)),
        )

    def _complete(
        self, messages: Sequence[Mapping[str, str]], max_new_tokens: int, options: Mapping[str, Any]
    ) -> list[Completion]:
        """One answer or several, when they are whole."""
        response = self._ask(messages, max_new_tokens, options, lambda: False)[0]
        found = []
        for choice in response["choices"]:
            chances = _log_probabilities([choice])
            text, ending = str(choice["message"]["content"] or ""), _ending_of([choice])
            prompt_tokens = int(response["usage"]["prompt_tokens"])
            found.append(Completion(text.strip(), prompt_tokens, len(chances), ending, sum(chances)))
        return found

    def _ask(
        self,
        messages: Sequence[Mapping[str, str]],
        max_new_tokens: int,
        options: Mapping[str, Any],
        should_stop: Callable[[], bool],
    ) -> list[dict[str, Any]]:
        """What llama.cpp sends; asked to stop where `should_stop` says so after a piece."""
        pieces: list[dict[str, Any]] = []

        def take(piece: dict[str, Any]) -> bool:
            """Runs inside llama.cpp, where an exception would be lost."""
            pieces.append(piece)
            return should_stop()

        body = {
            "messages": [dict(message) for message in messages],
            "max_tokens": max_new_tokens,
            "top_k": 0,
            "min_p": 0.0,
            "logprobs": True,
            "top_logprobs": 1,
            **options,
        }
        try:
            self._server.handle_chat_completions(body, take)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"llama.cpp refused the conversation: {error}") from error
        failed = next((piece["error"] for piece in pieces if "error" in piece), None)
        if failed is not None and failed.get("type") == "exceed_context_size_error":
            raise PromptTooLongError(int(failed["n_ctx"]))
        if failed is not None:
            raise ModelError(f"llama.cpp failed: {failed.get('message', 'no reason given')}")
        return pieces


def _ending_of(choices: Sequence[Mapping[str, Any]]) -> Literal["stop", "length"]:
    return "length" if any(choice["finish_reason"] == "length" for choice in choices) else "stop"


def _log_probabilities(choices: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of each token, nats."""
    tokens = [token for choice in choices for token in (choice.get("logprobs") or {}).get("content") or ()]
    return [float(token["logprob"]) for token in tokens]
