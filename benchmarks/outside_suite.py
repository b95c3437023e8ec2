"""Makes a suite from a file of requests and commands that others wrote, to measure with what this project did not write.

    python benchmarks/outside_suite.py PAIRS.jsonl SUITE --tasks 300

Each command is run in fixtures of the corpus until one is found in which it works and does something that can be seen: it prints,
or it changes files. Pairs that do so nowhere are left out, and of requests with one command (values masked) only one is kept. Other
commands that the file has for the same request are right too, where they work in the same fixture. `--without SUITE` leaves out what another
suite asks or does, for tasks that nobody has read. Then:

    overseer evaluate --model runs/latest --suite SUITE

`--checked benchmarks/outside_checked.jsonl` makes of nl2bash.jsonl the suite whose 400 requests were read, each by itself and without any model's
answers: it searches nothing, and takes the commands that a careful reader accepts. Requests that nobody can answer are left out, and so
are those whose accepted commands show nothing in the fixture.

Commands written by others are run in the sandbox only.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
from typing import Any

from overseer_training.data.sources.corpus import load_fixture_scripts
from overseer_training.data.sources.pairs import read_pairs
from overseer_training.evaluation.sandbox import Fixture, Sandbox, find_sandbox
from overseer_training.files import write_text
from overseer_training.records import Example

FIXTURES = ("files-home", "files-project", "files-logs", "files-data", "text-project", "text-logs", "text-lists", "media", "sys-etc", "dev-source")  # fmt: skip
Task = dict[str, Any]
VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|[\w.*~/]*[/.*][\w.*~/]*|\d+")


def main() -> None:
    """Read pairs, try them, write `SUITE/tasks.jsonl` and `SUITE/fixtures/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=pathlib.Path)
    parser.add_argument("suite", type=pathlib.Path)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--without", type=pathlib.Path, help="a suite whose requests and forms of commands are left out"
    )
    parser.add_argument("--checked", type=pathlib.Path, help="JSON lines: id, fixture, accepted commands")
    arguments = parser.parse_args()
    pairs = [row for row in read_pairs(arguments.pairs) if isinstance(row, Example)]
    sandbox = find_sandbox()
    scripts = load_fixture_scripts()
    fixtures = [sandbox.build_fixture(name, *scripts[name]) for name in FIXTURES]
    if arguments.checked is not None:
        tasks = read_checked(arguments.checked, pairs, sandbox, fixtures)
    else:
        rng = random.Random(arguments.seed)
        examples = one_of_each_form(pairs, rng)
        if arguments.without is not None:
            examples = without(examples, arguments.without)
        tasks = find_tasks(examples, pairs, arguments.tasks, sandbox, fixtures, rng)
    (arguments.suite / "fixtures").mkdir(parents=True, exist_ok=True)
    for name in sorted({task["fixture"] for task in tasks}):
        write_text(arguments.suite / "fixtures" / f"{name}.sh", scripts[name][0])
    write_text(arguments.suite / "tasks.jsonl", "".join(json.dumps(task) + "\n" for task in tasks))
    print(f"{len(tasks)} tasks")


def find_tasks(
    examples: list[Example],
    pairs: list[Example],
    number: int,
    sandbox: Sandbox,
    fixtures: list[Fixture],
    rng: random.Random,
) -> list[Task]:
    """The first `number` of `examples` that do something visible in a fixture, each with what `pairs` have for the same request."""
    commands_for: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for pair in pairs:
        commands_for[fold(pair.query)][pair.answer] = None
    tasks: list[Task] = []
    orders = [rng.sample(fixtures, len(fixtures)) for _ in examples]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(examples), 100):
            part = slice(start, start + 100)
            places = pool.map(lambda e, o: visible_in(sandbox, e.answer, o), examples[part], orders[part])
            for example, found in zip(examples[part], places, strict=True):
                if found is None or len(tasks) == number:
                    continue
                others = [other for other in commands_for[fold(example.query)] if other != example.answer]
                seen = [other for other in others if visible_in(sandbox, other, [found])]
                tasks.append(as_task(example.id, found.name, example.query, [example.answer, *seen]))
            if len(tasks) == number:
                break
    return tasks


def as_task(identity: str, fixture: str, query: str, references: list[str]) -> Task:
    """As a suite has it."""
    return {"id": identity, "kind": "command", "fixture": fixture, "query": query, "references": references}


def fold(request: str) -> str:
    """What is the same in two ways to write one request."""
    return " ".join(re.findall(r"[^\W_]+", request.casefold()))


def read_checked(path: pathlib.Path, pairs: list[Example], sandbox: Sandbox, fixtures: list[Fixture]) -> list[Task]:
    """The tasks that were read, with those of the accepted commands that do something visible."""
    places, queries = {fixture.name: [fixture] for fixture in fixtures}, {pair.id: pair.query for pair in pairs}
    read = [json.loads(line) for line in path.read_text().splitlines()]

    def references(record: Task) -> list[str]:
        return [command for command in record["accepted"] if visible_in(sandbox, command, places[record["fixture"]])]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(references, read))
    return [
        as_task(one["id"], one["fixture"], queries[one["id"]], commands)
        for one, commands in zip(read, found, strict=True)
        if commands
    ]


def without(examples: list[Example], suite: pathlib.Path) -> list[Example]:
    """Those whose request and form of command are not in `suite`."""
    tasks = [json.loads(line) for line in (suite / "tasks.jsonl").read_text().splitlines()]
    asked = {fold(task["query"]) for task in tasks}
    done = {VALUE.sub("#", command) for task in tasks for command in task["references"]}
    return [one for one in examples if fold(one.query) not in asked and VALUE.sub("#", one.answer) not in done]


def one_of_each_form(examples: list[Example], rng: random.Random) -> list[Example]:
    """Shuffled; one example for each command with its values masked."""
    shuffled = rng.sample(examples, len(examples))
    return list({VALUE.sub("#", example.answer): example for example in shuffled}.values())


def visible_in(sandbox: Sandbox, command: str, fixtures: list[Fixture]) -> Fixture | None:
    """The first fixture in which `command` succeeds, without complaints, and prints or changes something."""
    for fixture in fixtures:
        if fixture.live:
            continue
        execution = sandbox.run(fixture, command)
        if execution.timed_out or "command not found" in execution.stderr or "syntax error" in execution.stderr:
            return None
        changed = execution.files != sandbox.run(fixture, ":").files
        if execution.exit_code == 0 and not execution.stderr.strip() and (execution.stdout.strip() or changed):
            return fixture
    return None


if __name__ == "__main__":
    main()
