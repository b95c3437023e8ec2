"""The nouns that rooms exchange. No logic beyond what keeps a record consistent."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Platform = Literal["linux", "macos"]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Role
    content: str

    def as_message(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclasses.dataclass(frozen=True)
class Example:
    """One row to learn from: a conversation whose last turn is the assistant's.

    Attributes:
        id: unique and stable; names family, wording and binding.
        family: rows of one family never cross the split.
        skill: command, explanation, ...
        turns: without the system turn, which `prompts.py` adds for `platform`.
        source: where the row comes from, for the manifest (corpus, a file, ...).
    """

    id: str
    family: str
    skill: str
    turns: tuple[Turn, ...]
    platform: Platform
    source: str

    @property
    def query(self) -> str:
        return self.turns[0].content

    @property
    def answer(self) -> str:
        return self.turns[-1].content


@dataclasses.dataclass(frozen=True)
class Score:
    """A measured value with what is needed to believe it.

    Attributes:
        n: how many items were scored; `unscored` were not, and are not part of `value`.
        value: the mean over scored items; None when nothing was scored.
        ci95: 95 % interval, same unit as `value`.
        reason: why items are unscored; empty when none is.
    """

    n: int
    value: float | None
    ci95: tuple[float, float] | None
    unscored: int = 0
    reason: str = ""
    baseline: dict[str, float] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "value": self.value,
            "ci95": list(self.ci95) if self.ci95 else None,
            "baseline": self.baseline,
            "unscored": self.unscored,
            "reason": self.reason,
        }


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Where the rooms of one run meet; see docs/architecture.md."""

    root: pathlib.Path

    @property
    def plan(self) -> pathlib.Path:
        return self.root / "plan.json"

    @property
    def data(self) -> pathlib.Path:
        return self.root / "data"

    @property
    def data_manifest(self) -> pathlib.Path:
        return self.root / "data" / "manifest.json"

    @property
    def tokens(self) -> pathlib.Path:
        return self.root / "data" / "tokens"

    @property
    def taught(self) -> pathlib.Path:
        return self.root / "data" / "taught"

    @property
    def self_improvement(self) -> pathlib.Path:
        return self.root / "self-improvement"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.root / "checkpoints"

    @property
    def metrics(self) -> pathlib.Path:
        return self.root / "metrics.jsonl"

    @property
    def log(self) -> pathlib.Path:
        return self.root / "log.jsonl"

    @property
    def model(self) -> pathlib.Path:
        return self.root / "model"

    @property
    def evaluation(self) -> pathlib.Path:
        return self.root / "eval.json"

    @property
    def score_table(self) -> pathlib.Path:
        return self.root / "eval.txt"

    @property
    def answers(self) -> pathlib.Path:
        return self.root / "answers.jsonl"

    @property
    def gate(self) -> pathlib.Path:
        return self.root / "gate.json"

    @property
    def export(self) -> pathlib.Path:
        return self.root / "export"

    @property
    def report(self) -> pathlib.Path:
        return self.root / "report.html"

    @property
    def tensorboard(self) -> pathlib.Path:
        return self.root / "tensorboard"
