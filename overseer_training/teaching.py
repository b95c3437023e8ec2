"""What the teachers of a run are asked, and how what they write is proved before it may teach.

Takes a plan and the packaged corpus; gives rows. Only requests and commands of the corpus are sent to teachers, never anything of the
owner's. Commands are judged and run in the sandbox; in a hybrid run the effect that most teachers and the student agree on decides, and
has to be that of the corpus's own command.
"""

from __future__ import annotations

import functools
import pathlib
import random
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence

from overseer_training.config.plan import Plan
from overseer_training.custody import may_send_corpus
from overseer_training.data.clean import HeldOutRequests
from overseer_training.data.sources.corpus import Family, fill, load_families, load_fixture_scripts
from overseer_training.data.sources.repairs import load_repairs
from overseer_training.errors import SandboxError
from overseer_training.evaluation.compare import compare
from overseer_training.evaluation.proof import runs_to_an_effect
from overseer_training.evaluation.sandbox import Execution, Fixture, Sandbox, find_sandbox
from overseer_training.guards.judge import judge
from overseer_training.records import Example
from overseer_training.teachers import write
from overseer_training.teachers.agreement import teach_by_agreement
from overseer_training.teachers.ask import Budget
from overseer_training.teachers.find import open_teacher
from overseer_training.teachers.keys import ApiKey, find_key
from overseer_training.teachers.protocol import Teacher, TeacherError
from overseer_training.teachers.taught import Taught, teach
from overseer_training.teachers.write import Assignment, Proposal

Notify = Callable[[str], None]
Student = Callable[[Sequence[str]], list[str]]  # requests -> commands
SIDES = {"paraphrase": 0.5, "follow_up": 0.25, "repair": 0.15, "explanation": 0.1}  # shares of assignments; chosen
ITEMS = {"paraphrase": 5, "follow_up": 2}


def teach_rows(
    plan: Plan, folder: pathlib.Path, key: ApiKey | None, student: Student | None, notify: Notify
) -> tuple[list[Example], Taught]:
    """Have the plan's teachers write rows; those that pass every check, and what became of the rest.

    Args:
        key: for Gemini where it is among the teachers, else for a server that wants one.
        student: the newest trained model, for a hybrid run; None where there is none.

    Raises:
        TeacherError: no teacher could be used.
        SandboxError: commands cannot be run here, so nothing that a teacher writes can be proved.
    """
    teachers = _open(plan, key, notify)
    families = [family for family in load_families() if family.command_for("linux") is not None]
    held_out = HeldOutRequests.of_families(families)
    prover = Prover(find_sandbox(), families)
    budget = Budget(plan.teacher_requests, None, plan.teacher_seconds)
    if plan.hybrid:
        work = answer_assignments(prover.families, plan.teacher_requests // max(1, len(teachers)), plan.seed)
        said = student([task.values["request"] for task in work]) if student is not None else []
        own = {task.id: [command] for task, command in zip(work, said, strict=False) if command}
        notify(f"{len(teachers)} teachers" + (" and the student" if student is not None else "") + " vote by effect")
        taught = teach_by_agreement(
            teachers, work, folder, effect_of=prover.effect_of, check=prover.check, is_held_out=held_out.has, budget=budget,
            student_commands=own, seed=plan.seed, notify=notify,
        )  # fmt: skip
    else:
        work = assignments(prover.families, plan.teacher_requests, plan.seed)
        taught = teach(
            teachers[0], work, folder, check=prover.check, is_held_out=held_out.has, budget=budget, seed=plan.seed, notify=notify
        )  # fmt: skip
    return [row.example for row in taught.rows], taught


def _open(plan: Plan, key: ApiKey | None, notify: Notify) -> list[Teacher]:
    """The teachers that can be reached: all of them must be, but for a hybrid run, which goes on with those that are."""
    opened: list[Teacher] = []
    failure: TeacherError | None = None
    for name in plan.teachers:
        try:
            teacher = open_teacher(name, key=_key_for(name, plan.teachers, key), allow=may_send_corpus)
            teacher.list_models()  # says in one line when nobody is there, before anything is spent
            opened.append(teacher)
        except TeacherError as error:
            if not plan.hybrid:
                raise
            notify(f"goes on without {name}: {error}")
            failure = error
    if not opened and failure is not None:
        raise failure
    return opened


def _key_for(name: str, teachers: Sequence[str], key: ApiKey | None) -> ApiKey | None:
    """The key that the teacher `name` is sent: Gemini's goes to Gemini alone, whatever other servers there are."""
    if name.startswith("gemini"):
        return find_key(None) if key is None else key
    return None if any(other.startswith("gemini") for other in teachers) else key


class Prover:
    """Runs what teachers write in the fixtures of the families that it is about."""

    def __init__(self, sandbox: Sandbox, families: Sequence[Family]) -> None:
        self._sandbox = sandbox
        self._scripts = load_fixture_scripts()
        self._by_name = {family.name: family for family in families if family.split == "train"}
        self._repaired = {repair.failed: repair.command for repair in load_repairs()}
        self._lock = threading.Lock()

    @property
    def families(self) -> list[Family]:
        """Those that may be learned from: never a held-out one."""
        return list(self._by_name.values())

    def check(self, proposal: Proposal) -> str | None:
        """Why the commands of a proposal must not teach, or None.

        A repair and an answer must do what the command does that is known to be right, and name what it names of the request; turns
        of a conversation must run, one after the other, and have an effect.
        """
        for command in proposal.commands:
            verdict = judge(command)
            if verdict.decision != "allow":
                return f"{verdict.decision}: {verdict.reason}"
        family = self._by_name.get(proposal.assignment.family)
        if family is None:
            return "belongs to a held-out family"
        try:
            fixture = self._fixture(family.fixture)
            values = proposal.assignment.values
            is_repair = proposal.assignment.kind == "repair"
            reference = self._repaired[values["command"]] if is_repair else values.get("reference")
            if reference:
                asked = values["command" if is_repair else "request"]
                lost = [value for c in proposal.commands for value in write.missing_values(asked, reference, c)]
                if lost:
                    return f"leaves out {', '.join(lost)}"
                verdicts = [compare(reference, self._sandbox.run(fixture, reference), self._sandbox.run(fixture, c)) for c in proposal.commands]  # fmt: skip
                return next((verdict.reason for verdict in verdicts if not verdict.equal), None)
            before: tuple[str, ...] = (values["command"],) if "command" in values else ()
            for command in proposal.commands:
                problem = runs_to_an_effect(self._sandbox, fixture, command, before)
                if problem:
                    return problem
                before += (command,)
        except (SandboxError, ValueError) as error:
            return f"could not be run: {error}"
        return None

    def effect_of(self, assignment: Assignment, command: str) -> Hashable | None:
        """What `command` does in the assignment's fixture; None where it fails, does nothing or may do harm."""
        if judge(command).decision != "allow":
            return None
        family = self._by_name[assignment.family]
        try:
            fixture = self._fixture(family.fixture)
            if runs_to_an_effect(self._sandbox, fixture, command, ()):
                return None
            done = self._sandbox.run(fixture, command)
        except (SandboxError, ValueError):
            return None
        return _key(done)

    def _fixture(self, name: str) -> Fixture:
        with self._lock:
            return self._build(name)

    @functools.cache  # noqa: B019 (one prover for a run)
    def _build(self, name: str) -> Fixture:
        return self._sandbox.build_fixture(name, *self._scripts[name])


def _key(done: Execution) -> Hashable:
    lines = tuple(sorted(line.strip().removeprefix("./") for line in done.stdout.splitlines()))
    files = tuple(sorted((path, state.kind, state.mode, state.content) for path, state in done.files.items()))
    return lines, files, done.calls, done.processes


def assignments(families: Sequence[Family], number: int, seed: int) -> list[Assignment]:
    """What one teacher is asked: wordings, follow-ups, repairs and explanations for families drawn at random."""
    rng = random.Random(seed)
    names = {family.name for family in families}
    repairs = [repair for repair in load_repairs() if repair.family in names]
    kinds = rng.choices(list(SIDES), list(SIDES.values()), k=number)
    order = rng.choices(families, k=number)
    work: list[Assignment] = []
    for position, (kind, family) in enumerate(zip(kinds, order, strict=True)):
        binding = rng.choice(family.slots)
        request, command = fill(rng.choice(family.wordings), binding), fill(family.command, binding)
        identity = f"{kind}/{family.name}/{position}"
        if kind == "paraphrase":
            work.append(write.paraphrases(identity, family.name, request, command, ITEMS[kind]))
        elif kind == "follow_up":
            work.append(write.follow_ups(identity, family.name, request, command, ITEMS[kind]))
        elif kind == "explanation":
            work.append(write.explanation(identity, family.name, request, command))
        elif repairs:
            failed = rng.choice(repairs)
            identity = f"{kind}/{failed.family}/{position}"
            work.append(write.repair(identity, failed.family, failed.failed, failed.exit_code, failed.stderr))
    return work


def answer_assignments(families: Sequence[Family], number: int, seed: int) -> list[Assignment]:
    """Requests that several teachers and the student answer: wordings of families, with bindings of their fixtures."""
    rng = random.Random(seed)
    work = []
    for position, family in enumerate(rng.choices(families, k=number)):
        wording, binding = rng.choice(family.wordings), rng.choice(family.slots)
        request, command = fill(wording, binding), fill(family.command, binding)
        work.append(write.answer(f"answer/{family.name}/{position}", family.name, request, reference=command))
    return work


def describe(taught: Taught) -> str:
    """One line: what came of it."""
    counts: Mapping[str, int] = taught.counts()
    refused = counts["refused_by_reading"] + counts["refused_by_check"] + counts["secret"] + counts["held_out"]
    return (
        f"kept {counts['kept']} of {counts['proposed']} proposed rows, {refused} refused, {counts['repeated']} repeated"
    )
