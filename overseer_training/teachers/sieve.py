"""Which proposals may teach: looks for secrets, held-out requests and repetitions, then has the commands checked.

The check and what is held out are handed in; nothing is run here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from overseer_training.guards.secrets import find_secret
from overseer_training.records import Example, Turn
from overseer_training.teachers.rows import SOURCE, Provenance, TaughtRow
from overseer_training.teachers.write import Proposal

Check = Callable[[Proposal], str | None]  # the reason why `proposal.commands`, in that order, are not right, or None
IsHeldOut = Callable[[str], bool]  # request -> does it (nearly) repeat one that a model is measured with?


@dataclasses.dataclass
class ProposalCounts:
    """What became of proposals; proposed is the sum of all others.

    Attributes:
        refused_by_reading: not one line, a value lost, no agreement, ...
        refused_by_check: what the commands did was not right.
    """

    proposed: int = 0
    refused_by_reading: int = 0
    refused_by_check: int = 0
    secret: int = 0
    held_out: int = 0
    repeated: int = 0
    kept: int = 0

    def is_balanced(self) -> bool:
        refused = self.refused_by_reading + self.refused_by_check + self.secret + self.held_out
        return self.proposed == refused + self.repeated + self.kept


class Sieve:
    """Lets each conversation through once; counts, and keeps the reasons."""

    def __init__(self, check: Check, is_held_out: IsHeldOut, known: Iterable[Example] = ()) -> None:
        """Nothing of `known`, the rows that there are already, is kept again."""
        self.counts = ProposalCounts()
        self.refusals: list[tuple[str, str]] = []
        self._check = check
        self._is_held_out = is_held_out
        self._seen = {_fold(example.platform, example.turns) for example in known}

    def sift(self, proposal: Proposal, provenance: Provenance) -> TaughtRow | None:
        """The row of `proposal`, or None with the reason in `refusals`."""
        identity = f"taught/{proposal.assignment.id}/{proposal.number}"
        self.counts.proposed += 1
        refusal = self._refusal(proposal)
        if refusal is not None:
            count, reason = refusal
            setattr(self.counts, count, getattr(self.counts, count) + 1)
            self.refusals.append((identity, reason))
            return None
        self.counts.kept += 1
        assignment = proposal.assignment
        self._seen.add(_fold(assignment.platform, proposal.turns))
        example = Example(identity, assignment.family, proposal.skill, proposal.turns, assignment.platform, SOURCE)
        return TaughtRow(example, provenance)

    def _refusal(self, proposal: Proposal) -> tuple[str, str] | None:
        """(which count, reason); the check comes last, since it costs most."""
        if proposal.problem is not None:
            return "refused_by_reading", proposal.problem
        secret = next((kind for turn in proposal.turns if (kind := find_secret(turn.content))), None)
        if secret is not None:
            return "secret", f"holds a secret ({secret})"
        if any(self._is_held_out(turn.content) for turn in proposal.turns if turn.role == "user"):
            return "held_out", "request nearly repeats a held-out one"
        assignment = proposal.assignment
        request = proposal.turns[0].content
        if assignment.kind == "paraphrase" and request.casefold() == assignment.values["request"].casefold():
            return "repeated", "repeats the request that it was to reword"
        if _fold(assignment.platform, proposal.turns) in self._seen:
            return "repeated", "repeated"
        reason = self._check(proposal) if proposal.commands else None
        return None if reason is None else ("refused_by_check", reason)


def _fold(platform: str, turns: tuple[Turn, ...]) -> tuple[str, ...]:
    """What makes a conversation the same: requests but for case and blanks, replies but for blanks."""
    texts = (turn.content.casefold() if turn.role == "user" else turn.content for turn in turns)
    return (platform, *(" ".join(text.split()) for text in texts))
