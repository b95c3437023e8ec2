"""What to do about a command: allow it, ask its owner first, or refuse it; with the reason in words for that owner."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Literal

Decision = Literal["allow", "ask", "refuse"]
ORDER: dict[Decision, int] = {"allow": 0, "ask": 1, "refuse": 2}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A decision; `reason` is one short clause, empty where the decision is to allow."""

    decision: Decision
    reason: str = ""


def ask(reason: str) -> Verdict:
    return Verdict("ask", reason)


def refuse(reason: str) -> Verdict:
    return Verdict("refuse", reason)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gravest of `verdicts`, the first of equals; allow where there is none."""
    return max(verdicts, key=lambda verdict: ORDER[verdict.decision], default=Verdict("allow"))


def format_verdict(verdict: Verdict) -> str:
    """One line for a person, empty for what is allowed."""
    if verdict.decision == "allow":
        return ""
    opening = "Look at this before you run it" if verdict.decision == "ask" else "Do not run this"
    return f"{opening}: {verdict.reason}."
