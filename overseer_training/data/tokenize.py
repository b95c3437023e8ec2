"""Rows become token ids and labels, before training starts, with every check that keeps training and answering the same.

Takes examples and a tokenizer; gives a `TokenSet`. Only the assistant's turns have labels.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from overseer_training.data.chat_template import ChatTemplate
from overseer_training.errors import PreflightError
from overseer_training.prompts import with_system
from overseer_training.records import Example

IGNORED = -100  # torch's label for positions without a loss
ROWS_AT_ONCE = 256  # rendered and tokenized in one call; chosen


@dataclasses.dataclass(frozen=True)
class TokenSet:
    """Rows of different lengths, one after another.

    Attributes:
        ids, labels: (all tokens,) int32; labels are IGNORED on prompts, and labels[i] is the token at i itself (not shifted).
        starts: (rows + 1,) int64; row r is at starts[r]:starts[r + 1].
        too_long: how many examples were set aside.
        known_digest: `digest`, where it was worked out before; empty otherwise.
        is_mapped: whether the arrays are files.
    """

    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    too_long: int = 0
    known_digest: str = ""
    is_mapped: bool = False

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts)

    @property
    def digest(self) -> str:
        """SHA-256 of ids, labels and starts, one after the other: to know the rows again."""
        if self.known_digest:
            return self.known_digest
        total = hashlib.sha256()
        for numbers in (self.ids, self.labels, self.starts):
            total.update(np.ascontiguousarray(numbers).data)
        return total.hexdigest()

    @property
    def answer_tokens(self) -> int:
        return int((self.labels != IGNORED).sum())


def tokenize(examples: Iterable[Example], tokenizer: Any, sequence_length: int, stop_ids: Sequence[int]) -> TokenSet:
    """Token ids and labels of `examples`, in memory.

    Raises:
        PreflightError: training would see other prompt tokens than answering, or would never see an end of turn.
    """
    all_ids, all_labels, starts, too_long = array.array("i"), array.array("i"), array.array("q", [0]), 0
    for row in tokenize_rows(examples, tokenizer, sequence_length, stop_ids):
        if row is None:
            too_long += 1
            continue
        all_ids.extend(row[0])
        all_labels.extend(row[1])
        starts.append(len(all_ids))
    return TokenSet(np.array(all_ids, np.int32), np.array(all_labels, np.int32), np.array(starts, np.int64), too_long)


def tokenize_rows(
    examples: Iterable[Example], tokenizer: Any, sequence_length: int, stop_ids: Sequence[int]
) -> Iterator[tuple[list[int], list[int]] | None]:
    """Ids and labels of each example in turn; None for one that is too long. Raises what `tokenize` does."""
    stops, template, waiting = frozenset(stop_ids), ChatTemplate(tokenizer), iter(examples)
    count = fitting = 0
    while block := list(itertools.islice(waiting, ROWS_AT_ONCE)):
        for example, stretches in zip(block, _render(block, tokenizer, template), strict=True):
            ids, labels = _label(example, stretches, stops)
            count += 1
            if len(ids) > sequence_length:
                yield None
            else:
                fitting += 1
                yield ids, labels
    if count and not fitting:
        raise PreflightError(f"all {count} rows are longer than {sequence_length} tokens; raise --sequence-length")


def _render(
    examples: Sequence[Example], tokenizer: Any, template: ChatTemplate
) -> list[list[tuple[list[int], list[int]]]]:
    """For each example and each of its assistant's turns: (ids of the prompt, ids up to and with the turn).

    All of them are tokenized in one call, as a tokenizer does for a prompt: the rendered text, without further special tokens.
    """
    texts: list[str] = []
    turns = []
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
