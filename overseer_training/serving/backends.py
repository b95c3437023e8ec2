"""A trained model that answers one conversation at a time: its exported GGUF in llama.cpp, or its weights in transformers.

Takes a run or model folder; gives a `Backend`. The GGUF is taken where it was measured to answer as the weights do and is no
older than they are, since a person waits far less for it: README.md has the figures. Answers are not judged here.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from overseer_training.config.machine import find_machine
from overseer_training.errors import DataError, ModelError
from overseer_training.guards.gguf_file import check_gguf
from overseer_training.guards.signatures import admit_model, check_signature
from overseer_training.llama_cpp import start_server
from overseer_training.models.generate import MAX_NEW_TOKENS, render_prompt

if TYPE_CHECKING:
    import torch

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": …}
Ending = Literal["stop", "length", "cancelled"]
CONTEXT_TOKENS = (
    4096  # prompt and answer; chosen: beyond any conversation with so small a model, small enough for any machine
)
LEAST_PARITY = 0.9  # chosen: f16 and bf16 files are above it, and a q8_0 file that answers otherwise is below
GGUF_NAME = "model.gguf"
logger = logging.getLogger(__name__)


class PromptTooLongError(DataError):
    """The conversation leaves no room for an answer in the model's window."""

    def __init__(self, window_tokens: int) -> None:
        super().__init__(f"the conversation does not fit the model's window of {window_tokens} tokens; shorten it")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to answer.

    Attributes:
        temperature: 0 takes the likeliest token each time; then `top_p` and `seed` change nothing.
        should_stop: asked after each token; True ends the answer as cancelled.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    should_stop: Callable[[], bool] = lambda: False


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model said; `ending` is "length" where the token limit or the window cut it off."""

    text: str
    prompt_tokens: int
    answer_tokens: int
    ending: Ending


class Backend(Protocol):
    """A loaded model; not to be called from two threads at once.

    Attributes:
        kind: what computes, for people.
    """

    @property
    def kind(self) -> str: ...

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        """The answer to `messages`, system prompt included.

        Raises:
            PromptTooLongError: they do not fit.
            ModelError: the model failed on them.
        """
        ...


def load_backend(folder: pathlib.Path) -> Backend:
    """The model of a run or model folder, ready to answer.

    Raises:
        ModelError: the folder is not a model, or not what was signed.
    """
    path = find_gguf(folder)
    if path is not None:
        check_signature(path.parent)  # what somebody changed is refused; what is merely damaged is passed over
        try:
            admit_model(path.parent)
            return GgufBackend(path)
        except ModelError as error:
            logger.warning("%s; answering with the weights instead", error)
    return TransformersBackend(folder)


def find_gguf(folder: pathlib.Path) -> pathlib.Path | None:
    """The GGUF of a run that may stand for its weights, or None.

    Its export is complete and no older than the model, and has measured that llama.cpp answers as the weights do.
    """
    model = folder / "model" if (folder / "model" / "overseer.json").exists() else folder.resolve()
    path = model.parent / "export" / GGUF_NAME
    manifest = path.with_name("manifest.json")
    try:
        document = json.loads(manifest.read_text())
        sizes = {entry["path"]: entry["bytes"] for entry in document["files"]}
        parity = document["parity"]
        is_usable = (
            model.name == "model"
            and sizes[GGUF_NAME] == path.stat().st_size
            and manifest.stat().st_mtime_ns >= (model / "overseer.json").stat().st_mtime_ns
            and parity["equal"] >= LEAST_PARITY * max(1, parity["n"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if is_usable else None


def model_name(folder: pathlib.Path) -> str:
    """What a model is called to clients: its run, or its folder where it is in no run."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


class GgufBackend:
    """llama.cpp in this process. It keeps what it computed for the last conversation, so that a next turn is quick."""

    kind = "llama.cpp"

    def __init__(self, path: pathlib.Path) -> None:
        """Load the file.

        Raises:
            ModelError: it is damaged, or llama.cpp cannot load it.
        """
        try:
            problems, _ = check_gguf(path, with_values=False)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        if problems:
            raise ModelError(f"{path} is damaged: {problems[0]}; export the run again")
        # One core is left alone: threads that wait for one which another program holds up lose far more than they gain.
        threads = max(1, find_machine().cores - 1)
        self._server, _ = start_server(path, context_tokens=CONTEXT_TOKENS, threads=threads)

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        """See `Backend.answer`."""
        pieces: list[dict[str, Any]] = []
        is_cancelled = False

        def take(piece: dict[str, Any]) -> bool:
            """Runs inside llama.cpp, where an exception would be lost."""
            nonlocal is_cancelled
            pieces.append(piece)
            is_cancelled = is_cancelled or settings.should_stop()
            return is_cancelled

        body = {
            "messages": [dict(message) for message in messages],
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "seed": settings.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            self._server.handle_chat_completions(body, take)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"llama.cpp refused the conversation: {error}") from error
        return _joined(pieces, is_cancelled)


def _joined(pieces: Sequence[dict[str, Any]], is_cancelled: bool) -> Answer:
    """The answer in the pieces of a llama.cpp stream."""
    text, ending, prompt_tokens, answer_tokens = "", "", 0, 0
    for piece in pieces:
        if "error" in piece:
            error = piece["error"]
            if error.get("type") == "exceed_context_size_error":
                raise PromptTooLongError(int(error["n_ctx"]))
            raise ModelError(f"llama.cpp failed: {error.get('message', 'no reason given')}")
        for choice in piece["choices"]:
            text += choice["delta"].get("content") or ""
            ending = choice["finish_reason"] or ending
        if piece.get("usage"):
            prompt_tokens = piece["usage"]["prompt_tokens"]
            answer_tokens = piece["usage"]["completion_tokens"]
    if is_cancelled:
        return Answer(text.strip(), prompt_tokens, answer_tokens, "cancelled")
    return Answer(text.strip(), prompt_tokens, answer_tokens, "length" if ending == "length" else "stop")


class TransformersBackend:
    """The weights themselves, on the processor."""

    kind = "transformers"

    def __init__(self, folder: pathlib.Path) -> None:
        """Load the folder.

        Raises:
            ModelError: it is not a model.
        """
        from overseer_training.models.load import load_trained

        self._loaded = load_trained(folder)
        limit = getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", CONTEXT_TOKENS)
        self._window = min(int(limit), CONTEXT_TOKENS)

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        """See `Backend.answer`."""
        import torch
        from transformers import StoppingCriteriaList

        prompt = render_prompt(self._loaded, [dict(message) for message in messages])
        if len(prompt) >= self._window:
            raise PromptTooLongError(self._window)
        is_cancelled = False

        def stop_if_asked(ids_bt: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            nonlocal is_cancelled
            is_cancelled = is_cancelled or settings.should_stop()
            return torch.full((ids_bt.shape[0],), is_cancelled, device=ids_bt.device)

        is_sampled = settings.temperature > 0
        torch.manual_seed(settings.seed)
        model: Any = self._loaded.model
        ids_bt = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            output_bt = model.generate(
                input_ids=ids_bt,
                attention_mask=torch.ones_like(ids_bt),
                max_new_tokens=min(settings.max_new_tokens, self._window - len(prompt)),
                do_sample=is_sampled,
                num_beams=1,
                temperature=settings.temperature if is_sampled else None,
                top_p=settings.top_p if is_sampled else None,
                top_k=0 if is_sampled else None,
                eos_token_id=list(self._loaded.stop_ids),
                pad_token_id=self._loaded.tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([stop_if_asked]),  # type: ignore[list-item]
            )
        answer: list[int] = output_bt[0, len(prompt) :].tolist()
        ending: Ending = "stop" if answer and answer[-1] in self._loaded.stop_ids else "length"
        text = str(self._loaded.tokenizer.decode(answer, skip_special_tokens=True)).strip()
        return Answer(text, len(prompt), len(answer), "cancelled" if is_cancelled else ending)
