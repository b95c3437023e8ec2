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
from typing import Any, Protocol

from overseer_training.config.machine import find_machine
from overseer_training.errors import ModelError
from overseer_training.guards.gguf_file import check_gguf
from overseer_training.guards.signatures import admit_model, check_signature
from overseer_training.models.decoding import Sampling, decode_batch, search_batch
from overseer_training.models.generate import MAX_NEW_TOKENS, random_numbers_of, render_prompt
from overseer_training.models.llama_file import Ending, LlamaFile, PromptTooLongError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": …}
CONTEXT_TOKENS = (
    4096  # prompt and answer; chosen: beyond any conversation with so small a model, small enough for any machine
)
LEAST_PARITY = 0.9  # chosen: f16 and bf16 files are above it, and a q8_0 file that answers otherwise is below
GGUF_NAME = "model.gguf"
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to answer.

    Attributes:
        temperature: 0 looks for the likeliest answer; then `top_p` and `seed` change nothing.
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
        self._file = LlamaFile(path, context_tokens=CONTEXT_TOKENS, threads=max(1, find_machine().cores - 1))

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        """See `Backend.answer`."""
        limit, should_stop = settings.max_new_tokens, settings.should_stop
        if settings.temperature > 0:
            sampling = Sampling(settings.temperature, settings.top_p, settings.seed)
            said = self._file.draw(messages, limit, sampling, should_stop)
        else:
            said = self._file.find_likeliest(messages, limit, should_stop)
        return Answer(said.text, said.prompt_tokens, said.answer_tokens, said.ending)


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
        prompt = render_prompt(self._loaded, [dict(message) for message in messages])
        if len(prompt) >= self._window:
            raise PromptTooLongError(self._window)
        is_cancelled = False

        def should_stop() -> bool:
            nonlocal is_cancelled
            is_cancelled = is_cancelled or settings.should_stop()
            return is_cancelled

        options: dict[str, Any] = {
            "stop_ids": self._loaded.stop_ids,
            "pad_id": self._loaded.tokenizer.pad_token_id,
            "max_new_tokens": min(settings.max_new_tokens, self._window - len(prompt)),
            "should_stop": should_stop,
        }
        if settings.temperature > 0:
            sampling = Sampling(settings.temperature, settings.top_p, settings.seed)
            random_numbers = random_numbers_of(self._loaded, sampling)
            answers = decode_batch(
                self._loaded.model, [prompt], **options, sampling=sampling, random_numbers=random_numbers
            )
        else:
            answers = search_batch(self._loaded.model, [prompt], **options)
        answer = answers[0]
        ending: Ending = "stop" if answer and answer[-1] in self._loaded.stop_ids else "length"
        text = str(self._loaded.tokenizer.decode(answer, skip_special_tokens=True)).strip()
        return Answer(text, len(prompt), len(answer), "cancelled" if is_cancelled else ending)
