"""Rows become token ids and labels, before training starts, with every check that keeps training and answering the same.

Takes examples and a tokenizer; gives a `TokenSet`. Only the assistant's turns have labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from overseer_training.data.chat_template import ChatTemplate
from overseer_training.errors import PreflightError
from overseer_training.prompts import with_system
from overseer_training.records import Example

IGNORED = -100  # torch's label for positions without a loss


@dataclasses.dataclass(frozen=True)
class TokenSet:
    """Rows of different lengths, one after another.

    Attributes:
        ids, labels: (all tokens,) int32; labels are IGNORED on prompts, and labels[i] is the token at i itself (not shifted).
        starts: (rows + 1,) int64; row r is at starts[r]:starts[r + 1].
        too_long: ids of examples that were set aside.
    """

    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    too_long: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts)

    @property
    def digest(self) -> str:
        """SHA-256 of all rows, to know them again."""
        total = hashlib.sha256()
        for array in (self.ids, self.labels, self.starts):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    @property
    def answer_tokens(self) -> int:
        return int((self.labels != IGNORED).sum())


def tokenize(examples: Sequence[Example], tokenizer: Any, sequence_length: int, stop_ids: Sequence[int]) -> TokenSet:
    """Token ids and labels of `examples`.

    Raises:
        PreflightError: training would see other prompt tokens than answering, or would never see an end of turn.
    """
    all_ids: list[int] = []
    all_labels: list[int] = []
    starts = [0]
    too_long = []
    for example, stretches in zip(examples, _render(examples, tokenizer), strict=True):
        ids, labels = _label(example, stretches, frozenset(stop_ids))
        if len(ids) > sequence_length:
            too_long.append(example.id)
            continue
        all_ids += ids
        all_labels += labels
        starts.append(len(all_ids))
    if examples and len(starts) == 1:
        raise PreflightError(
            f"all {len(examples)} rows are longer than {sequence_length} tokens; raise --sequence-length"
        )
    return TokenSet(
        np.array(all_ids, np.int32), np.array(all_labels, np.int32), np.array(starts, np.int64), tuple(too_long)
    )


def _render(examples: Sequence[Example], tokenizer: Any) -> list[list[tuple[list[int], list[int]]]]:
    """For each example and each of its assistant's turns: (ids of the prompt, ids up to and with the turn).

    Everything is tokenized in one call, as a tokenizer does for a prompt: the rendered text, without further special tokens.
    """
    texts: list[str] = []
    turns = []
    template = ChatTemplate(tokenizer)
    for example in examples:
        messages = with_system(example.turns, example.platform)
        positions = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
        turns.append(len(positions))
        for position in positions:
            for part, is_prompt in ((messages[:position], True), (messages[: position + 1], False)):
                texts.append(template.render(part, is_prompt))
    ids = iter(tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
    return [[(next(ids), next(ids)) for _ in range(count)] for count in turns]


def _label(
    example: Example, stretches: Sequence[tuple[list[int], list[int]]], stop_ids: frozenset[int]
) -> tuple[list[int], list[int]]:
    """Ids and labels; what a template puts behind an end of turn has no label, and ends no row."""
    ids: list[int] = []
    labels: list[int] = []
    last_label = 0
    for prompt, whole in stretches:
        if whole[: len(prompt)] != prompt or prompt[: len(ids)] != ids:
            raise PreflightError(
                f"row {example.id}: the chat template renders other prompt tokens in training than when answering; "
                "use a base model whose template adds turns at the end only"
            )
        answer = whole[len(prompt) :]
        end = next((index for index, token in enumerate(answer) if token in stop_ids), -1) + 1
        if not end:
            raise PreflightError(
                f"row {example.id}: no end-of-turn token among its labels; the model would never stop. "
                "Its chat template must end the assistant's turn with a stop token."
            )
        labels += [IGNORED] * (len(prompt) - len(labels)) + answer[:end] + [IGNORED] * (len(answer) - end)
        ids = whole
        last_label = len(prompt) + end
    if not any(label != IGNORED for label in labels):
        raise PreflightError(f"row {example.id}: it has no labelled token")
    return ids[:last_label], labels[:last_label]
