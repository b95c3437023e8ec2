"""Self-improvement: the trained model answers training requests several times, and learns from its own answers that did the right thing.

Takes the model of a run, its rows and a plan; leaves a model that answers requests of the validation split no worse, and what became of
each round in self-improvement/rounds.json. What is asked comes from families of the training split alone, whose commands are known and
are run beside the answers. The test split decides nothing here.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overseer_training import custody
from overseer_training.config.plan import Plan
from overseer_training.data.clean import HeldOutRequests
from overseer_training.data.sources.corpus import Family, fill, load_families, load_fixture_scripts
from overseer_training.errors import SandboxError, TrainingError
from overseer_training.evaluation.compare import Verdict
from overseer_training.evaluation.questions import Question
from overseer_training.evaluation.sandbox import Fixture, Sandbox, find_sandbox
from overseer_training.evaluation.suite import Task, corpus_suite
from overseer_training.evaluation.tasks.commands import CommandScorer, questions
from overseer_training.files import replace_folder, write_json
from overseer_training.guards.judge import judge
from overseer_training.learning.curate import replay
from overseer_training.planning import gentler
from overseer_training.records import Example, RunPaths, Score
from overseer_training.teachers.rejection import Sampled, sample
from overseer_training.teachers.rows import write_rows
from overseer_training.teachers.sieve import Sieve
from overseer_training.teachers.write import answer, missing_values

if TYPE_CHECKING:
    from overseer_training.evaluation.runner import Evaluator

TEMPERATURE, TOP_P = 0.8, 0.95  # chosen: answers differ, and most still parse
EPOCHS = 2  # of the rows of a round; chosen
VALIDATION_TASKS = 200  # by which a round is kept or not


@dataclasses.dataclass(frozen=True)
class Round:
    """What became of one round.

    Attributes:
        requests: asked, `samples` times each.
        solved: requests with at least one answer that did the right thing.
        always_solved: requests all of whose answers did.
        new: rows that were trained on: one of each solved request, where it is not known yet.
        before, after: commands of the validation split that are right; `after` is None where nothing was trained.
        is_kept: whether the model that came of it took the place of the one before.
    """

    number: int
    requests: int
    samples: int
    solved: int
    always_solved: int
    new: int
    before: Score
    after: Score | None
    is_kept: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        scores = {"before": self.before.as_dict(), "after": self.after.as_dict() if self.after else None}
        return {**dataclasses.asdict(self), **scores}

    def describe(self) -> str:
        """The round in one line."""
        asked = f"round {self.number}: {self.solved} of {self.requests} requests solved, {self.new} answers are new"
        if self.after is None:
            return f"{asked}; nothing was trained"
        values = " -> ".join("unscored" if s.value is None else f"{s.value:.1%}" for s in (self.before, self.after))
        return f"{asked}; validation commands right {values} (n = {self.after.n}): {'kept' if self.is_kept else 'not kept'}"


def check_improvable(plan: Plan) -> None:
    """Say before training, not after it, that nothing can be proved here.

    Raises:
        SandboxError: the plan has rounds of self-improvement, and no sandbox works.
    """
    if plan.self_improvement_rounds:
        find_sandbox()


def improve(
    plan: Plan, paths: RunPaths, rows: Mapping[str, Sequence[Example]], base: pathlib.Path, terminal: Any
) -> int:
    """The plan's rounds on the model of a run; gives the exit code of a signal that ended them, else 0.

    Args:
        rows: of the run, by split.
        base: the base model, below adapters.
    """
    if not plan.self_improvement_rounds:
        return 0
    with terminal.stage("self-improvement") as stage:
        improvement = _Improvement(plan, paths, rows, base, terminal.say)
        done: list[Round] = []
        score = improvement.measure(paths.model)
        for number in range(1, plan.self_improvement_rounds + 1):
            finished = improvement.run_round(number, score)
            if finished is None:
                break
            done.append(finished)
            score = finished.after if finished.is_kept and finished.after is not None else score
            write_json(paths.self_improvement / "rounds.json", [one.as_dict() for one in done])
            terminal.say(f"  {finished.describe()}")
        stage.result = f"{sum(one.is_kept for one in done)} of {len(done)} rounds kept"
    return improvement.exit_code


class _Improvement:
    """Rounds of one run, which share what was asked, run and measured."""

    def __init__(
        self,
        plan: Plan,
        paths: RunPaths,
        rows: Mapping[str, Sequence[Example]],
        base: pathlib.Path,
        notify: Callable[[str], None],
    ) -> None:
        self.exit_code = 0
        self._plan, self._paths, self._rows, self._base, self._notify = plan, paths, rows, base, notify
        self._families = load_families()
        self._proof = AnswerProof(find_sandbox())

    @functools.cached_property
    def _evaluator(self) -> Evaluator:
        from overseer_training.evaluation.runner import Evaluator

        families, seed = self._families, self._plan.seed
        suite = corpus_suite(families, VALIDATION_TASKS, seed, with_macos=False, split="validation")
        return Evaluator(suite, self._notify)

    @functools.cached_property
    def _sieve(self) -> Sieve:
        """Lets what no round has trained on through; the proof is the check of what commands do.

        It remembers the rows of those requests that are going to be asked: all rows may be more than there is memory for.
        """
        held_out = HeldOutRequests.of_families(self._families)
        rounds = range(1, self._plan.self_improvement_rounds + 1)
        asked = {_fold(question.query) for number in rounds for question in self._draw(number)}
        known = (row for row in self._rows["train"] if _fold(row.query) in asked)
        return Sieve(lambda proposal: None, held_out.has, known)

    def _draw(self, number: int) -> list[Question]:
        """What a round asks."""
        return draw_questions(self._families, self._plan.self_improvement_requests, self._plan.seed + number)

    def measure(self, model: pathlib.Path) -> Score:
        """Commands of the validation split that the model in `model` gets right."""
        from overseer_training.models.load import load_trained

        return self._evaluator.evaluate(load_trained(model, self._plan.device)).scores["command_accuracy"]

    def run_round(self, number: int, before: Score) -> Round | None:
        """Ask, prove, train, measure; None where training was ended from outside: the model of the run is the one before."""
        started = time.monotonic()
        plan, asked = self._plan, self._draw(number)
        self._notify(f"  round {number}: {plan.self_improvement_samples} answers to each of {len(asked)} requests")
        sampled = self._sample(number, asked)
        candidate = self._paths.self_improvement / f"round-{number}"
        after, is_kept = None, False
        if sampled.rows:
            write_rows(self._paths.self_improvement / f"rows-{number}.jsonl", sampled.rows)
            if not self._train(number, [row.example for row in sampled.rows], candidate):
                return None
            after = self.measure(candidate)
            is_kept = after.value is not None and before.value is not None and after.value >= before.value
            if is_kept:
                replace_folder(candidate, self._paths.model)
            else:
                shutil.rmtree(candidate)
        return Round(
            number, sampled.n, plan.self_improvement_samples, sampled.solved, sampled.always_solved, len(sampled.rows),
            before, after, is_kept, round(time.monotonic() - started, 1),
        )  # fmt: skip

    def _sample(self, number: int, asked: Sequence[Question]) -> Sampled:
        from overseer_training.models.decoding import Sampling
        from overseer_training.models.generate import extract_command, generate
        from overseer_training.models.load import load_trained

        plan, samples = self._plan, self._plan.self_improvement_samples
        loaded = load_trained(self._paths.model, plan.device)
        sampling = Sampling(TEMPERATURE, TOP_P, plan.seed + number)
        texts = generate(loaded, [one.messages for one in asked for _ in range(samples)], sampling=sampling)
        del loaded
        commands = [extract_command(text) for text in texts]
        groups = [commands[start : start + samples] for start in range(0, len(commands), samples)]
        right = self._proof.find_right(asked, groups)
        assignments = [answer(one.id, one.cluster, one.query, reference=one.references[0]) for one in asked]
        return sample(
            assignments, lambda requests, k: groups, lambda assignment, command: (assignment.id, command) in right,
            self._sieve, samples=samples, student=plan.base_model,
        )  # fmt: skip

    def _train(self, number: int, new: list[Example], target: pathlib.Path) -> bool:
        """Train the model of the run on `new` rows and others again, and write what comes of it to `target`; False where it was ended."""
        import torch

        from overseer_training.data.tokenize import tokenize
        from overseer_training.models import load
        from overseer_training.training.batches import Schedule
        from overseer_training.training.engine import VALIDATION_ROWS, Trainer
        from overseer_training.training.stop_signals import StopSignals

        plan = gentler(self._plan)
        tokenizer = load.load_tokenizer(self._paths.model)
        stops = load.stop_ids(tokenizer)
        rows = replay(new, self._rows["train"], plan.replay_share, plan.seed + number)
        watched = self._rows["validation"][:: max(1, len(self._rows["validation"]) // VALIDATION_ROWS)]
        train, validation = (tokenize(some, tokenizer, plan.sequence_length, stops) for some in (rows, watched))
        schedule = Schedule(len(train), plan.effective_batch_size, EPOCHS, None, plan.seed + number)
        plan = _fit(plan, schedule.total_steps)
        torch.manual_seed(plan.seed + number)
        model = load.load_to_train(self._paths.model, self._base, plan, int(train.lengths.max()))
        model.train()
        scratch = self._paths.self_improvement / "checkpoints"
        try:
            trainer = Trainer(model, train, validation, plan, folder=scratch, listener=lambda event: None)
            with StopSignals() as stop:
                outcome = trainer.run(schedule, stop)
            if outcome.reason != "finished":
                self.exit_code = outcome.exit_code if outcome.reason == "interrupted" else 0
                self._notify(
                    f"  round {number} ended early ({outcome.reason.replace('_', ' ')}): the model before it stays"
                )
                return False
            trainer.use_best_weights()
        except TrainingError as error:
            self._notify(f"  round {number} failed, the model before it stays: {error}")
            return False
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        own = plan.model_type == "custom"
        load.save_trained(
            model, tokenizer, target,
            base_name=plan.base_model, base_folder=None if own else self._base, method=plan.method,
        )  # fmt: skip
        custody.record("training", run=self._paths.root.name, model=plan.base_model[: custody.SHORT], rows=len(train))
        return True


def _fold(request: str) -> str:
    return " ".join(request.casefold().split())


def _fit(plan: Plan, steps: int) -> Plan:
    """`plan` for a round of `steps` steps, which is validated and kept at its end."""
    values = {"warmup_steps": max(1, steps // 10), "eval_steps": steps, "save_steps": steps + 1}
    origin = f"a round of {steps} steps"
    return plan.with_values({name: (value, origin) for name, value in {**values, "time_budget_seconds": None}.items()})


def draw_questions(families: Sequence[Family], number: int, seed: int) -> list[Question]:
    """At most `number` requests, one of a family, of families of the training split, with values that their fixtures have."""
    rng = random.Random(seed)
    known = [one for one in families if one.split == "train" and one.command_for("linux") is not None]
    asked: list[Question] = []
    for family in rng.sample(known, min(number, len(known))):
        wording, binding = rng.randrange(len(family.wordings)), rng.choice(family.slots)
        fields = {
            "fixture": family.fixture,
            "query": fill(family.wordings[wording], binding),
            "references": [fill(command, binding) for command in (family.command, *family.also)],
        }
        asked += questions(Task(f"self/{seed}/{family.name}/{wording}", "command", fields, family.name))
    return asked


class AnswerProof:
    """Runs answers beside the known commands of their requests."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._scripts = load_fixture_scripts()
        self._fixtures: dict[str, Fixture] = {}
        self._scorer = CommandScorer(sandbox, self._fixtures)

    def find_right(self, asked: Sequence[Question], groups: Sequence[Sequence[str]]) -> set[tuple[str, str]]:
        """(id, command) of the answers that are harmless and do what a reference does; several sandboxes at once."""
        for name in sorted({question.fixture for question in asked} - self._fixtures.keys()):
            with contextlib.suppress(SandboxError):  # without its fixture no answer of a request is right
                self._fixtures[name] = self._sandbox.build_fixture(name, *self._scripts[name])
        tried = [
            (question, command)
            for question, group in zip(asked, groups, strict=True)
            for command in set(group)
            if command
        ]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            verdicts = list(pool.map(lambda pair: self._is_right(*pair), tried))
        return {(question.id, command) for (question, command), fine in zip(tried, verdicts, strict=True) if fine}

    def _is_right(self, question: Question, command: str) -> bool:
        """Names and numbers of the request must be in the command too: `cat` does what `head -n 20` does to a short file."""
        if judge(command).decision != "allow" or missing_values(question.query, question.references[0], command):
            return False
        verdict = self._scorer.score(question, command)
        return isinstance(verdict, Verdict) and verdict.equal and self._prints_the_same(question, command)

    def _prints_the_same(self, question: Question, command: str) -> bool:
        """Whether the lines are those of the first reference to the letter: a score forgives blanks, and `cat` would do for `tr -s ' '`."""
        if command == question.references[0]:
            return True
        fixture = self._fixtures[question.fixture]
        try:
            printed = [self._sandbox.run(fixture, one).stdout for one in (question.references[0], command)]
        except SandboxError:
            return False
        return sorted(printed[0].splitlines()) == sorted(printed[1].splitlines())
