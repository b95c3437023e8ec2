"""Requests for a tool that test a model: in people's words, each with every tool that would do. Reads `corpus/tools_test.yaml`."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, get_args

from overseer_training.data.sources.corpus import CORPUS
from overseer_training.data.sources.entries import list_problems, read_entries, text_problems
from overseer_training.records import Platform

KEYS = {"request", "category", "acceptable", "installed", "platform"}


@dataclasses.dataclass(frozen=True)
class ToolRequest:
    """A need and what fulfils it.

    Attributes:
        acceptable: every tool that would do, in no order.
        installed: what the machine has that is asked about; where some of it is acceptable, it is to be preferred.
    """

    need: str
    category: str
    acceptable: tuple[str, ...]
    installed: tuple[str, ...] = ()
    platform: Platform = "linux"


def load_tool_requests(path: pathlib.Path = CORPUS / "tools_test.yaml") -> list[ToolRequest]:
    """The requests in `path`.

    Raises:
        DataError: with every problem found.
    """
    return [
        ToolRequest(
            entry["request"],
            entry["category"],
            tuple(entry["acceptable"]),
            tuple(entry.get("installed", [])),
            entry.get("platform", "linux"),
        )
        for entry, _ in read_entries(path, "request", _problems)
    ]


def _problems(entry: dict[str, Any]) -> list[str]:
    problems = [f"unknown key {key!r}" for key in sorted(entry.keys() - KEYS)]
    problems += text_problems(entry, ("category",))
    problems += list_problems(entry, "acceptable", 1) + list_problems(entry, "installed")
    if entry.get("platform", "linux") not in get_args(Platform):
        problems.append("'platform' must be linux or macos")
    return problems
