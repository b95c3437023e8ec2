"""Proves the corpus: runs every target of every family and dialogue in its fixture.

Takes families and a sandbox; gives `Proof`s. A family passes when, for each of its bindings, the command ends with
its stated exit code, leaves something that can be compared, gives what `expect` states, and every alternative does the same.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import random
import re
from collections.abc import Iterator, Sequence

from overseer_training.data.compose import Composition
from overseer_training.data.sources.corpus import Family, fill
from overseer_training.data.sources.dialogues import Dialogue, render_dialogue
from overseer_training.errors import SandboxError
from overseer_training.evaluation.compare import compare
from overseer_training.evaluation.sandbox import Execution, Fixture, Sandbox

NOT_FOUND = re.compile(r": (.+): command not found")


@dataclasses.dataclass(frozen=True)
class Proof:
    """What running one family showed.

    Attributes:
        problems: empty when the family passes.
        missing_program: a program that this machine lacks; the family was not proved here and did not fail.
        is_executed: False when the command's effect was only noted by an emulated program, or is for another system.
    """

    family: str
    problems: tuple[str, ...]
    missing_program: str = ""
    is_executed: bool = True


Unit = Family | Dialogue
Scripts = dict[str, tuple[str, str]]


def prove(units: Sequence[Unit], scripts: Scripts, sandbox: Sandbox, workers: int | None = None) -> Iterator[Proof]:
    """Run all families and dialogues; yields proofs in their order, each as soon as it and all before it are there.

    Args:
        scripts: for each fixture its script, and the script of its processes (empty without any).
        workers: sandboxes at once; one for each processor if None.
    """
    fixtures: dict[str, tuple[Fixture, Execution] | str] = {}
    for name in sorted({family.fixture for family in units}):
        if name not in scripts:
            fixtures[name] = f"there is no fixture {name!r}"
            continue
        try:
            fixture = sandbox.build_fixture(name, *scripts[name])
            fixtures[name] = fixture, sandbox.run(fixture, ":")
        except SandboxError as error:
            fixtures[name] = str(error)
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        yield from pool.map(lambda unit: _prove(unit, fixtures[unit.fixture], sandbox), units)


def _prove(unit: Unit, built: tuple[Fixture, Execution] | str, sandbox: Sandbox) -> Proof:
    if isinstance(built, str):
        return Proof(unit.name, (built,))
    if isinstance(unit, Family):
        return prove_family(unit, *built, sandbox)
    return prove_dialogue(unit, built[0], sandbox)


def prove_family(family: Family, fixture: Fixture, untouched: Execution, sandbox: Sandbox) -> Proof:
    """Run one family with each of its bindings; `untouched` is what the fixture is without any command."""
    problems: list[str] = []
    is_executed = True
    for number, binding in enumerate(family.slots):
        command = fill(family.command, binding)
        execution = sandbox.run(fixture, command)
        missing = NOT_FOUND.search(execution.stderr)
        if missing:
            return Proof(family.name, (), missing_program=missing.group(1), is_executed=False)
        is_executed &= not execution.calls
        found = _execution_problems(family.exit_code, execution, untouched)
        if number == 0:
            found += [f"output lacks {text!r}" for text in family.expect if text not in execution.stdout]
        problems += [f"$ {command}: {problem}" for problem in found]
        if found:
            continue
        again = sandbox.run(fixture, command)
        third = sandbox.run(fixture, command) if again != execution else again
        verdict = compare(command, execution, third, again)
        if not verdict.equal:
            problems.append(f"$ {command}: differs from run to run: {verdict.reason}")
        for other in family.also:
            other = fill(other, binding)
            verdict = compare(command, execution, sandbox.run(fixture, other), again)
            if not verdict.equal:
                problems.append(f"$ {other}: differs from the command: {verdict.reason}")
    return Proof(family.name, tuple(problems), is_executed=is_executed)


def prove_dialogue(dialogue: Dialogue, fixture: Fixture, sandbox: Sandbox) -> Proof:
    """Run every turn with each binding, in the state that the commands of the earlier turns left."""
    problems: list[str] = []
    is_executed = True
    for binding in dialogue.slots:
        before: tuple[str, ...] = ()
        for number, turn in enumerate(dialogue.turns, start=1):
            command = fill(turn.command, binding)
            execution = sandbox.run(fixture, command, before=before)
            missing = NOT_FOUND.search(execution.stderr)
            if missing:
                return Proof(dialogue.name, (), missing_program=missing.group(1), is_executed=False)
            is_executed &= not execution.calls
            found = _execution_problems(turn.exit_code, execution, sandbox.run(fixture, ":", before=before))
            again = sandbox.run(fixture, command, before=before) if not found else execution
            for other in turn.also if not found else ():
                other = fill(other, binding)
                verdict = compare(command, execution, sandbox.run(fixture, other, before=before), again)
                if not verdict.equal:
                    found.append(f"{other}: differs from the command: {verdict.reason}")
            problems += [f"turn {number} $ {command}: {problem}" for problem in found]
            before += (command,)
    return Proof(dialogue.name, tuple(problems), is_executed=is_executed)


def prove_composition(
    composition: Composition, number: int, scripts: Scripts, sandbox: Sandbox, seed: int = 0
) -> Iterator[Proof]:
    """Run `number` composed commands whose slots name what the composition's own fixture has.

    A command passes when it ends without a message: it may find nothing, and `grep` then ends with 1.
    """
    proof, rng = composition.parts["proof"], random.Random(seed)
    fixture = sandbox.build_fixture(proof["fixture"], *scripts[proof["fixture"]])
    for _ in range(number):
        request, command = composition.draw(rng, proof["values"])
        execution = sandbox.run(fixture, proof.get("before", "") + command)
        message = execution.stderr.strip()
        failed = execution.timed_out or (message and not any(text in message for text in proof.get("may_say", ())))
        problem = f"{request!r} $ {command}: {message or 'ran into the time limit'}"
        yield Proof(f"compose-{composition.name}", (problem,) if failed else (), is_executed=not execution.calls)


def runs_to_an_effect(sandbox: Sandbox, fixture: Fixture, command: str, before: tuple[str, ...]) -> str | None:
    """Why `command`, run after `before`, is of no use: it fails, or leaves nothing that could be compared; None where it is."""
    problems = _execution_problems(0, sandbox.run(fixture, command, before=before), sandbox.run(fixture, ":", before=before))  # fmt: skip
    return problems[0] if problems else None


def _execution_problems(expected_exit_code: int, execution: Execution, untouched: Execution) -> list[str]:
    last = (execution.stderr.strip().splitlines() or ["no message"])[-1]
    if execution.timed_out:
        return ["ran into the time limit"]
    refused = [call[1] for call in execution.calls if call[0] == "refused"]
    if refused:
        return [f"{refused[0]} has no such subcommand"]
    if execution.exit_code != expected_exit_code and not execution.calls:
        return [f"exit code {execution.exit_code} instead of {expected_exit_code}: {last}"]
    changed = execution.files != untouched.files or execution.processes != untouched.processes
    if not (execution.stdout.strip() or execution.calls or changed):
        return ["leaves nothing to compare: no output, no changed file, no call"]
    return []


def format_proof(proof: Proof) -> list[str]:
    """A line for each problem of a family."""
    lines = [f"{proof.family}: {problem}" for problem in proof.problems]
    if proof.missing_program:
        lines.append(f"{proof.family}: not proved, this machine has no {proof.missing_program}")
    return lines


def format_counts(units: Sequence[Unit], proofs: Sequence[Proof]) -> str:
    """A line for families and one for dialogues: what was proved. Wordings and rows are those before augmentation."""
    executed = {proof.family for proof in proofs if proof.is_executed}
    failed = sum(bool(proof.problems) for proof in proofs)
    rows = {
        "families": {unit.name: len(unit.wordings) for unit in units if isinstance(unit, Family)},
        "dialogues": {unit.name: len(list(render_dialogue(unit))) for unit in units if isinstance(unit, Dialogue)},
    }
    lines = []
    for kind, counts in rows.items():
        if counts:
            run = sum(count for name, count in counts.items() if name in executed)
            share = run / sum(counts.values())
            lines.append(f"{len(counts)} {kind}, {sum(counts.values())} rows, {run} of them ({share:.0%}) executed")
    return "\n".join([*lines, f"{failed} failed"])
