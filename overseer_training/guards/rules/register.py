"""Where each area writes down its rules: a rule takes a call and the directory it runs in, and yields verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict

Rule = Callable[[Call, str], Iterator[Verdict]]
RULES: dict[str, list[Rule]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Apply the function to calls of the programs in `names`."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES.setdefault(name, []).append(function)
        return function

    return register
