"""Answers that are no proven command: which tool to use, and what to do with a dangerous or ambiguous request.

Takes `corpus/tools/` and `corpus/safety/`; gives `Tool`s, `SafetyCase`s and their `Example`s.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from overseer_training.data.sources.corpus import CORPUS, Split, split_of
from overseer_training.data.sources.entries import list_problems, read_entries, text_problems
from overseer_training.records import Example, Platform, Turn

Expectation = Literal["refuse", "ask", "answer"]
INSTALL = {  # manager -> how it is called; programs of the Python index with pipx, as pip refuses them on Debian and Homebrew (PEP 668)
    "apt": "sudo apt install", "brew": "brew install", "dnf": "sudo dnf install", "pacman": "sudo pacman -S",
    "pip": "pipx install", "npm": "npm install -g", "cargo": "cargo install",
}  # fmt: skip
MANAGERS: dict[Platform, tuple[str, ...]] = {  # the preferred one first
    "linux": ("apt", "dnf", "pacman", "pip", "npm", "cargo"),
    "macos": ("brew", "pip", "npm", "cargo"),
}
MOST_ALTERNATIVES = 3


@dataclasses.dataclass(frozen=True)
class Tool:
    """A program that people are advised to use."""

    name: str
    purpose: str
    category: str
    alternatives: tuple[str, ...]
    platforms: tuple[Platform, ...]
    install: dict[str, str]
    requests: tuple[str, ...]

    @property
    def split(self) -> Split:
        return split_of(f"tool:{self.name}")


@dataclasses.dataclass(frozen=True)
class SafetyCase:
    """A request that sounds dangerous, and the careful answer."""

    name: str
    expect: Expectation
    answer: str
    wordings: tuple[str, ...]

    @property
    def split(self) -> Split:
        return split_of(f"safety:{self.name}")


def load_tools(folder: pathlib.Path = CORPUS / "tools") -> list[Tool]:
    """The tools in `folder`.

    Raises:
        DataError: with every problem found.
    """
    return [
        Tool(
            entry["tool"], entry["purpose"], entry["category"], tuple(entry.get("alternatives", [])),
            tuple(entry["platforms"]), dict(entry.get("install", {})), tuple(entry["requests"]),
        )
        for entry, _ in read_entries(folder, "tool", _tool_problems)
    ]  # fmt: skip


def load_safety_cases(folder: pathlib.Path = CORPUS / "safety") -> list[SafetyCase]:
    """The cases in `folder`.

    Raises:
        DataError: with every problem found.
    """
    return [
        SafetyCase(entry["safety"], entry["expect"], entry["answer"].strip(), tuple(entry["wordings"]))
        for entry, _ in read_entries(folder, "safety", _safety_problems)
    ]


def choose_package(install: Mapping[str, str], managers: Iterable[str]) -> tuple[str, str] | None:
    """(manager, package) by the first of `managers` that `install` has, or None."""
    return next(((manager, install[manager]) for manager in managers if manager in install), None)


def recommend(tool: Tool, platform: Platform) -> str:
    """The answer that recommends `tool`: what it is, how it is installed, what else would do."""
    lines = [f"{tool.name}: {tool.purpose}"]
    package = choose_package(tool.install, MANAGERS[platform])
    if package is not None:
        lines.append(f"{INSTALL[package[0]]} {package[1]}")
    if tool.alternatives:
        lines.append(f"also: {', '.join(tool.alternatives[:MOST_ALTERNATIVES])}")
    return "\n".join(lines)


def render_tool(tool: Tool) -> Iterator[Example]:
    """A row for each request, on the platforms of the tool in turn."""
    for number, request in enumerate(tool.requests):
        platform = tool.platforms[number % len(tool.platforms)]
        turns = (Turn("user", request), Turn("assistant", recommend(tool, platform)))
        yield Example(f"tool/{tool.name}/{number}", f"tool/{tool.name}", "tools", turns, platform, "corpus")


def render_safety_case(case: SafetyCase) -> Iterator[Example]:
    """A row for each wording."""
    for number, wording in enumerate(case.wordings):
        turns = (Turn("user", wording), Turn("assistant", case.answer))
        yield Example(f"safety/{case.name}/{number}", f"safety/{case.name}", "safety", turns, "linux", "corpus")


def _tool_problems(entry: dict[str, Any]) -> list[str]:
    problems = text_problems(entry, ("purpose", "category"))
    problems += list_problems(entry, "requests", 3) + list_problems(entry, "alternatives")
    platforms, install = entry.get("platforms"), entry.get("install", {})
    if not isinstance(platforms, list) or not platforms or not set(platforms) <= set(get_args(Platform)):
        problems.append("'platforms' must be a list of linux and macos")
    if not isinstance(install, dict) or not set(install) <= set(INSTALL):
        problems.append(f"'install' must be a mapping of {', '.join(INSTALL)} to package names")
    return problems


def _safety_problems(entry: dict[str, Any]) -> list[str]:
    problems = text_problems(entry, ("answer",)) + list_problems(entry, "wordings", 3)
    if entry.get("expect") not in get_args(Expectation):
        return [*problems, f"'expect' must be one of {', '.join(get_args(Expectation))}"]
    answer = str(entry.get("answer", ""))
    if "\n" in answer.strip():
        problems.append("the answer must be one line")
    if (entry["expect"] == "refuse") != answer.startswith("# "):
        problems.append("a refusal, and nothing else, is a shell comment: '# why, and a safer way'")
    if entry["expect"] == "ask" and "  # " not in answer:
        problems.append("an answer to 'ask' looks only, and says behind two spaces and '# ' how to go on")
    return problems
