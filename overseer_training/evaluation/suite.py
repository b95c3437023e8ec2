"""Test suites: a folder that anybody can write, or the corpus's own test split. See docs/architecture.md for the format."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from overseer_training.data.sources.advice import SafetyCase, load_safety_cases
from overseer_training.data.sources.corpus import Family, Split, fill, load_families, load_fixture_scripts
from overseer_training.data.sources.dialogues import Dialogue, load_dialogues
from overseer_training.data.sources.repairs import Repair, load_repairs
from overseer_training.data.tools.requests import load_tool_requests
from overseer_training.errors import DataError
from overseer_training.records import Platform
from overseer_training.telemetry import examples as telemetry
from overseer_training.telemetry.questions import problems_of

KINDS: dict[str, tuple[str, ...]] = {
    "command": ("fixture", "query", "references"),
    "dialogue": ("fixture", "turns"),
    "repair": ("fixture", "failed", "exit_code", "stderr", "references"),
    "tools": ("query", "acceptable"),
    "safety": ("query", "expect"),
    "prediction": ("window", "question", "answer"),
}
EXECUTED_KINDS = ("command", "dialogue", "repair")


@dataclasses.dataclass(frozen=True)
class Task:
    """One task of a suite; `fields` are those that `KINDS` names for its kind.

    Attributes:
        cluster: tasks of one cluster are not independent (wordings of one family).
    """

    id: str
    kind: str
    fields: Mapping[str, Any]
    cluster: str
    platform: Platform = "linux"


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tasks and the scripts of their fixtures: name -> (script, live script)."""

    tasks: tuple[Task, ...]
    scripts: Mapping[str, tuple[str, str]]


def load_suite(folder: pathlib.Path) -> Suite:
    """Read `folder/tasks.jsonl` and `folder/fixtures/*.sh`.

    Raises:
        DataError: with every problem found.
    """
    path = folder / "tasks.jsonl"
    try:
        lines = path.read_text("utf-8").split("\n")  # not splitlines: JSON texts may hold U+2028
        scripts = load_fixture_scripts(folder / "fixtures")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder} is not a suite: {error}; a suite has tasks.jsonl and fixtures/NAME.sh") from error
    tasks: list[Task] = []
    problems: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except ValueError as error:
            problems.append(f"line {number}: not JSON ({error})")
            continue
        found = _task_problems(document, scripts, seen)
        problems += [f"line {number}: {problem}" for problem in found]
        if not found:
            seen.add(document["id"])
            tasks.append(
                Task(document["id"], document["kind"], document, document["id"], document.get("platform", "linux"))
            )
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DataError(f"{path}: " + "; ".join(problems[:10]) + more)
    if not tasks:
        raise DataError(f"{path} has no tasks")
    return Suite(tuple(tasks), scripts)


def packaged_suite(limit: int, seed: int, with_macos: bool = True) -> Suite:
    """The test split of the packaged corpus: at most `limit` commands, and a quarter of that of dialogues, of repairs, of safety
    tasks, of tools and of predictions.

    Args:
        with_macos: also commands that exist on macOS alone.
    """
    families = load_families()
    splits = {family.name: family.split for family in families}
    repairs = [(repair, splits[repair.family]) for repair in load_repairs() if repair.family in splits]
    commands = corpus_suite(families, limit, seed, with_macos)
    skills = skill_tasks(load_dialogues(), repairs, limit // 4, seed)
    others = safety_tasks(load_safety_cases(), limit // 4, seed) + tool_tasks(limit // 4, seed)
    others += prediction_tasks(limit // 4, seed)
    return Suite(commands.tasks + skills + others, commands.scripts)


def corpus_suite(
    families: Sequence[Family], limit: int, seed: int, with_macos: bool = True, split: Split = "test"
) -> Suite:
    """Command tasks from the families of a held-out split: every wording with the binding that training would never see.

    Args:
        limit: at most so many tasks, drawn evenly over the families.
        with_macos: also families that exist on macOS alone.
    """
    rng = random.Random(seed)
    by_family: list[list[Task]] = []
    for family in families:
        if family.split != split or (family.command_for("linux") is None and not with_macos):
            continue
        platform: Platform = "macos" if family.command_for("linux") is None else "linux"
        tasks = []
        for number, wording in enumerate(family.wordings):
            binding = family.slots[number % len(family.slots)]
            fields = {
                "fixture": family.fixture,
                "query": fill(wording, binding),
                "references": [fill(command, binding) for command in (family.command, *family.also)],
            }
            tasks.append(Task(f"{family.name}/{number}", "command", fields, family.name, platform))
        rng.shuffle(tasks)
        by_family.append(tasks)
    rng.shuffle(by_family)
    chosen: list[Task] = []
    for position in range(max((len(tasks) for tasks in by_family), default=0)):
        chosen += [tasks[position] for tasks in by_family if position < len(tasks)]
    return Suite(tuple(chosen[:limit]), load_fixture_scripts())


def skill_tasks(
    dialogues: Sequence[Dialogue], repairs: Sequence[tuple[Repair, Split]], limit: int, seed: int
) -> tuple[Task, ...]:
    """Dialogues and repairs of the test split, at most `limit` of each: a dialogue with one binding and one wording a turn."""
    rng = random.Random(seed)
    talks = [dialogue for dialogue in dialogues if dialogue.split == "test"]
    failures = [repair for repair, split in repairs if split == "test"]
    tasks = []
    for dialogue in rng.sample(talks, min(limit, len(talks))):
        binding = rng.choice(dialogue.slots)
        turns = [
            {
                "query": fill(rng.choice(turn.wordings), binding),
                "references": [fill(command, binding) for command in (turn.command, *turn.also)],
                "depends": turn.depends,
            }
            for turn in dialogue.turns
        ]
        fields = {"fixture": dialogue.fixture, "turns": turns}
        tasks.append(Task(f"dialogue/{dialogue.name}", "dialogue", fields, dialogue.name))
    for number, repair in enumerate(rng.sample(failures, min(limit, len(failures)))):
        fields = {**dataclasses.asdict(repair), "references": [repair.command, *repair.also]}
        tasks.append(Task(f"repair/{repair.family}/{number}", "repair", fields, repair.family))
    return tuple(tasks)


def safety_tasks(cases: Sequence[SafetyCase], limit: int, seed: int) -> tuple[Task, ...]:
    """Wordings of the test split's safety cases, at most `limit`, every case once before any comes again."""
    rng = random.Random(seed)
    asked = [
        (position, rng.random(), case, wording)
        for case in cases
        if case.split == "test"
        for position, wording in enumerate(rng.sample(case.wordings, len(case.wordings)))
    ]
    return tuple(
        Task(f"safety/{case.name}/{position}", "safety", {"query": wording, "expect": case.expect}, case.name)
        for position, _, case, wording in sorted(asked, key=lambda item: item[:2])[:limit]
    )


def tool_tasks(limit: int, seed: int) -> tuple[Task, ...]:
    """Needs in people's words, with every tool that would do."""
    tasks = [
        Task(
            f"tools/{number}",
            "tools",
            {"query": found.need, "acceptable": list(found.acceptable), "installed": list(found.installed)},
            found.category,
            found.platform,
        )
        for number, found in enumerate(load_tool_requests())
    ]
    return tuple(random.Random(seed).sample(tasks, min(limit, len(tasks))))


def prediction_tasks(limit: int, seed: int) -> tuple[Task, ...]:
    """Questions about simulated machines that no training row is about."""
    made = telemetry.tasks(limit, seed, "test") if limit else []
    return tuple(Task(task["id"], "prediction", task, str(task["machine"])) for task in made)


def _task_problems(document: Any, scripts: Mapping[str, Any], seen: set[str]) -> list[str]:
    if not isinstance(document, dict) or not isinstance(document.get("id"), str) or not document["id"]:
        return ["every task needs a text 'id'"]
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return [f"kind must be one of {', '.join(KINDS)}, not {kind!r}"]
    problems = [f"{kind} task lacks {name!r}" for name in KINDS[kind] if name not in document]
    if document["id"] in seen:
        problems.append(f"id {document['id']!r} is used twice")
    problems += [
        f"{name!r} must be a text"
        for name in ("fixture", "query", "failed", "stderr")
        if name in KINDS[kind] and name in document and not isinstance(document[name], str)
    ]
    if kind in EXECUTED_KINDS and isinstance(document.get("fixture"), str) and document["fixture"] not in scripts:
        problems.append(f"there is no fixtures/{document['fixture']}.sh")
    if kind == "repair" and "exit_code" in document and type(document["exit_code"]) is not int:
        problems.append("'exit_code' must be a whole number")
    if kind == "dialogue" and "turns" in document:
        turns = document["turns"]
        if not isinstance(turns, list) or not turns:
            problems.append("'turns' must be a list with at least one turn")
        else:
            for turn in turns:
                if not isinstance(turn, dict) or not isinstance(turn.get("query"), str):
                    problems.append("every turn needs a text 'query'")
                if not isinstance(turn, dict) or not _are_commands(turn.get("references")):
                    problems.append("'references' must be a list with at least one command")
    elif kind in EXECUTED_KINDS and "references" in document and not _are_commands(document["references"]):
        problems.append("'references' must be a list with at least one command")
    if kind == "tools" and "acceptable" in document and not _are_commands(document["acceptable"]):
        problems.append("'acceptable' must be a list with at least one tool")
    if kind == "prediction" and not problems:
        problems += problems_of(document)
    if document.get("platform", "linux") not in ("linux", "macos"):
        problems.append("platform must be linux or macos")
    return problems


def _are_commands(references: Any) -> bool:
    return (
        isinstance(references, list)
        and bool(references)
        and all(isinstance(item, str) and item.strip() for item in references)
    )
