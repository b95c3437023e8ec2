"""Sets rows aside that repeat, leak, contradict, do not parse, hold secrets or do harm; each with its reason.

Takes rows one by one; gives them again, or why they go. Nothing is changed or guessed: a row stays as it is, or goes with a reason. What others wrote is
looked at more closely than the corpus, whose commands were proved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rensa import RMinHash, RMinHashLSH

from overseer_training.data.digests import DigestMap, DigestSet, digest_of
from overseer_training.data.sources.corpus import Family, Split, fill
from overseer_training.data.sources.pairs import NoPair
from overseer_training.guards.judge import judge
from overseer_training.guards.secrets import find_secret
from overseer_training.guards.shell import parses as parses
from overseer_training.records import Example

HELD_OUT: tuple[Split, ...] = ("validation", "test")
NO_PAIR = "no pair of a request and a one-line command"
NEARLY_THE_SAME = 0.8  # estimated Jaccard similarity of letter runs; chosen: one changed word in ten stays above it
LETTERS = 4  # of a run
HASHES, BANDS = 128, 16


class SetAside(NamedTuple):
    """A row that goes: why, and its id."""

    reason: str
    id: str


def clean(
    train: Iterable[Example | NoPair], held_out: Mapping[Split, Sequence[Example]]
) -> Iterator[tuple[Split, Example] | SetAside]:
    """The rows that stay, with their split, and those that go: of training first, each as soon as it is read.

    Left out are repeated conversations, and rows of training that share a request or a whole answer with a held-out one. The corpus's
    own commands may share an answer by chance of their slots; rows of other skills and sources may not. Rows of other sources must also
    be sound (`problem_of`), must not nearly repeat a held-out request, and have one answer a request.
    """
    known = [example for examples in held_out.values() for example in examples]
    answers = {
        _fold(turn.content)
        for example in known
        for turn in example.turns
        if turn.role == "assistant" and example.skill in ("command", "dialogue")
    }
    requests = {_fold(example.query).casefold() for example in known}
    similar: HeldOutRequests | None = None
    answer_of = DigestMap()  # (platform, request) -> answer
    splits: list[tuple[Split, Iterable[Example | NoPair]]] = [("train", train), *held_out.items()]
    for split, rows in splits:
        seen = DigestSet()
        for row in rows:
            if isinstance(row, NoPair):
                yield SetAside(NO_PAIR, row.id)
                continue
            texts = [_fold(turn.content) for turn in row.turns]
            request = texts[0].casefold()
            conversation, asked = digest_of(row.platform, *texts), digest_of(row.platform, request)
            reason = None
            if conversation in seen:
                reason = "repeated"
            elif split == "train" and request in requests:
                reason = "request is in a held-out split"
            elif split == "train" and not is_of_family(row) and not answers.isdisjoint(_answers(row, texts)):
                reason = "answer is in a held-out split"
            elif is_from_outside(row):
                similar = similar or HeldOutRequests(requests)
                reason = problem_of(row)
                if reason is None and similar.has(request):
                    reason = "request nearly repeats a held-out one"
                answer = digest_of(row.answer)
                if reason is None and answer_of.setdefault(asked, answer) != answer:
                    reason = "another answer for the same request"
            if reason is not None:
                yield SetAside(reason, row.id)
                continue
            seen.add(conversation)
            if len(row.turns) == 2:
                answer_of.setdefault(asked, digest_of(row.answer))
            yield split, row


def problem_of(example: Example) -> str | None:
    """Why nobody should learn from this row of commands, or None."""
    text = " ".join(turn.content for turn in example.turns)
    if find_secret(text):
        return "holds a secret"
    if example.skill != "command":
        return None
    if not parses(example.answer):
        return "does not parse as bash"
    return "harmful" if judge(example.answer).decision == "refuse" else None


def is_of_family(example: Example) -> bool:
    """Whether a row comes from a family of the corpus, which is wholly on one side of the split."""
    return example.source == "corpus" and example.skill in ("command", "explanation")


def is_from_outside(example: Example) -> bool:
    """Whether this project did not write the row."""
    return example.source not in ("corpus", "telemetry")


class HeldOutRequests:
    """Held-out requests, to be asked for near repetitions."""

    @classmethod
    def of_families(cls, families: Iterable[Family]) -> HeldOutRequests:
        """Every wording of held-out families with every binding."""
        return cls(
            {
                _fold(fill(wording, binding)).casefold()
                for family in families
                if family.split in HELD_OUT
                for wording in family.wordings
                for binding in family.slots
            }
        )

    def __init__(self, requests: set[str]) -> None:
        self._index = RMinHashLSH(threshold=NEARLY_THE_SAME, num_perm=HASHES, num_bands=BANDS)
        self._sketches = [_sketch(request) for request in sorted(requests)]
        for number, sketch in enumerate(self._sketches):
            self._index.insert(number, sketch)

    def has(self, request: str) -> bool:
        """Whether `request` nearly repeats one of them."""
        sketch = _sketch(_fold(request).casefold())
        return any(sketch.jaccard(self._sketches[number]) >= NEARLY_THE_SAME for number in self._index.query(sketch))


def _sketch(text: str) -> RMinHash:
    sketch = RMinHash(num_perm=HASHES, seed=0)
    sketch.update([text[start : start + LETTERS] for start in range(max(1, len(text) - LETTERS + 1))])
    return sketch


def _answers(example: Example, texts: Sequence[str]) -> Iterator[str]:
    return (text for turn, text in zip(example.turns, texts, strict=True) if turn.role == "assistant")


def _fold(text: str) -> str:
    return " ".join(text.split())
