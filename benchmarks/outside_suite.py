"""Makes a suite from a file of requests and commands that others wrote, to measure with what this project did not write.

    python benchmarks/outside_suite.py PAIRS.jsonl SUITE --tasks 300

Each command is run in fixtures of the corpus until one is found in which it works and does something that can be seen: it prints,
or it changes files. Pairs that do so nowhere are left out, and of requests with one command (values masked) only one is kept. Other
commands that the file has for the same request are right too, where they work in the same fixture. `--without SUITE` leaves out what another
suite asks or does, for tasks that nobody has read. Then:

    overseer evaluate --model runs/latest --suite SUITE

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

from overseer_training.data.sources.corpus import load_fixture_scripts
from overseer_training.data.sources.pairs import read_pairs
from overseer_training.evaluation.sandbox import Fixture, Sandbox, find_sandbox
from overseer_training.files import write_text
from overseer_training.records import Example

FIXTURES = ("files-home", "files-project", "files-logs", "files-data", "text-project", "text-logs", "text-lists", "media", "sys-etc", "dev-source")  # fmt: skip
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
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    pairs = [row for row in read_pairs(arguments.pairs) if isinstance(row, Example)]
    examples = one_of_each_form(pairs, rng)
    if arguments.without is not None:
        examples = without(examples, arguments.without)
    commands_for: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for pair in pairs:
        commands_for[fold(pair.query)][pair.answer] = None
    sandbox = find_sandbox()
    scripts = load_fixture_scripts()
    fixtures = [sandbox.build_fixture(name, *scripts[name]) for name in FIXTURES]
    tasks: list[dict[str, object]] = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        orders = [rng.sample(fixtures, len(fixtures)) for _ in examples]
        tried = 0
        for start in range(0, len(examples), 100):
            part = slice(start, start + 100)
            for example, found in zip(
                examples[part],
                pool.map(lambda e, o: visible_in(sandbox, e.answer, o), examples[part], orders[part]),
                strict=True,
            ):
                tried += 1
                if found is not None and len(tasks) < arguments.tasks:
                    others = [other for other in commands_for[fold(example.query)] if other != example.answer]
                    tasks.append(
                        {
                            "id": example.id,
                            "kind": "command",
                            "fixture": found.name,
                            "query": example.query,
                            "references": [
                                example.answer,
                                *(other for other in others if visible_in(sandbox, other, [found])),
                            ],
                        }
                    )
            if len(tasks) == arguments.tasks:
                break
    (arguments.suite / "fixtures").mkdir(parents=True, exist_ok=True)
    for name in sorted({str(task["fixture"]) for task in tasks}):
        write_text(arguments.suite / "fixtures" / f"{name}.sh", scripts[name][0])
    write_text(arguments.suite / "tasks.jsonl", "".join(json.dumps(task) + "\n" for task in tasks))
    print(f"{len(tasks)} tasks of {tried} pairs tried")


def fold(request: str) -> str:
    """What is the same in two ways to write one request."""
    return " ".join(re.findall(r"[^\W_]+", request.casefold()))


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
