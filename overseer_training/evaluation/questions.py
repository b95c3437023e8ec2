"""What evaluation asks and what it got: the nouns that the scorers of all kinds of tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from overseer_training.records import Score

Messages = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Question:
    """One answer that is wanted of a model.

    Attributes:
        id: of the task, with the number of the turn where it has several.
        cluster: questions of one cluster are not independent.
        references: right answers, in the form that the kind of task has.
        before: commands that made the state in which the answer runs.
        depends: how a later turn of a conversation follows up on an earlier one; empty elsewhere.
        is_control: asked without the history that it depends on.
        facts: what a report shows beside the answer.
    """

    id: str
    kind: str
    cluster: str
    query: str
    messages: Messages
    fixture: str
    references: tuple[str, ...]
    before: tuple[str, ...] = ()
    depends: str = ""
    is_control: bool = False
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered; `equal` is None where it could not be scored."""

    question: Question
    text: str
    command: str
    equal: bool | None
    reason: str


class Scorer(Protocol):
    """The tasks of some kinds: what a model is asked, and what its answers are worth."""

    @property
    def questions(self) -> Sequence[Question]:
        """In an order that stays."""

    def score(self, texts: Sequence[str]) -> list[Answer]:
        """A verdict on each text; `texts` are in the order of `questions`."""

    def summarize(self, answers: Sequence[Answer]) -> dict[str, Score]:
        """Scores by metric."""
