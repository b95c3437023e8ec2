"""The recipe of a run, readable top to bottom; the only module that imports every room.

    plan -> (teachers) -> data -> model -> training -> evaluation -> export -> report

Rooms meet in the run directory (`records.RunPaths`); `runs/latest` points to the newest run that got to its end and passed its gate.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from overseer_training import custody
from overseer_training.config.launch import find_launch
from overseer_training.config.plan import Plan, format_plan, read_plan
from overseer_training.errors import (
    DataError,
    MemoryLimitError,
    ModelError,
    OverseerError,
    UsageError,
)
from overseer_training.files import write_text
from overseer_training.gathering import Gathering, take_api_key
from overseer_training.planning import check_memory, choose_start, fit_steps, forecast_run, rows_of_probe
from overseer_training.records import Example, RunPaths
from overseer_training.run_folder import (
    log_to,
    mark_launch,
    mark_newest,
    new_run_folder,
    newest_now,
    only_run_in,
)
from overseer_training.teachers.keys import ApiKey
from overseer_training.training.allocator import keep_freed_memory
from overseer_training.training.checkpoint_paths import step_of
from overseer_training.training.distributed import World, join

logger = logging.getLogger(__name__)
STAGES = 6
PARITY_REQUESTS = 50


def run(flags: argparse.Namespace) -> int:
    """Everything that `main_training.py` does; returns the exit code."""
    from overseer_training.reporting.terminal import Terminal

    keep_freed_memory()
    key = take_api_key(flags)
    world = join(find_launch())
    if world.rank != 0:
        from overseer_training.training.follower import follow

        return follow(world)
    plan, checkpoint, begun = choose_start(flags)
    check_memory(plan)
    paths = RunPaths(begun or new_run_folder(flags.output_dir, flags.run_name))
    teaches, improves = bool(plan.teachers and checkpoint is None), bool(plan.self_improvement_rounds)
    terminal = Terminal(STAGES + teaches + improves)
    with only_run_in(paths.root), log_to(paths.log):
        mark_newest(paths.root)
        mark_launch(paths.root, find_launch().identity)
        if checkpoint is not None and step_of(pathlib.Path(flags.resume_from_checkpoint or "")) < 0:
            checkpoint = newest_now(checkpoint)
        terminal.say(f"run {paths.root}")
        session = Session(plan, paths, terminal, flags, checkpoint, key, world)
        try:
            return session.run()
        except (OverseerError, OSError) as error:
            logger.error("stopped: %s", error, exc_info=error)
            raise
        except (RuntimeError, MemoryError) as error:
            from overseer_training.training.memory_guard import is_out_of_memory

            logger.error("stopped: %s", error, exc_info=error)
            if not is_out_of_memory(error):
                raise
            raise MemoryLimitError(
                "memory ran out where no smaller micro-batch helps; close programs, or use a smaller --base-model, --method lora "
                "or a shorter --sequence-length. A checkpoint that was saved before is whole"
            ) from error


@dataclasses.dataclass
class Session:
    """One run under way: what its stages hand to each other."""

    plan: Plan
    paths: RunPaths
    terminal: Any
    flags: argparse.Namespace
    checkpoint: pathlib.Path | None
    api_key: ApiKey | None = None
    world: World = dataclasses.field(default_factory=World)

    def run(self) -> int:
        from overseer_training.self_improvement import check_improvable, improve
        from overseer_training.training.memory_guard import free_caches

        check_improvable(self.plan)
        custody.check_keys()
        self._start_folder(self.paths.root)  # what is refused is refused before rows are gathered
        gathering = Gathering(self.plan, self.paths, self.terminal, self.flags.output_dir, self.api_key)
        rows = gathering.gather()
        trainer, schedule, tokenizer, base = self.prepare_training(rows)
        gathering.keep_for_later_runs()
        outcome = self.train(trainer, schedule)
        self.world.leave()
        if outcome.reason in ("interrupted", "memory_limit"):
            if outcome.reason == "memory_limit":
                raise MemoryLimitError(outcome.message)
            again = f"python3 main_training.py --resume-from-checkpoint {self.paths.checkpoints}"
            self.terminal.say(f"{outcome.message}. Go on with: {again}")
            return int(outcome.exit_code)
        self.keep_model(trainer, tokenizer, base)
        del trainer
        shutil.rmtree(self.paths.tokens, ignore_errors=True)
        free_caches("cpu")  # sandboxes are forked from this process: the smaller it is, the faster
        if code := improve(self.plan, self.paths, rows, base, self.terminal):
            return code
        self.evaluate(rows, self._start_folder(base))
        self.export()
        self.report()
        return 0

    def prepare_training(self, rows: Mapping[str, Sequence[Example]]) -> tuple[Any, Any, Any, pathlib.Path]:
        """Load the model, tokenize, measure this machine, and freeze the plan."""
        import torch

        from overseer_training.data.token_file import training_tokens
        from overseer_training.data.tokenize import tokenize
        from overseer_training.models import load
        from overseer_training.training.batches import Schedule
        from overseer_training.training.checkpoints import load_checkpoint
        from overseer_training.training.engine import VALIDATION_ROWS, Trainer
        from overseer_training.training.follower import agree_on_start, hand_out
        from overseer_training.training.precision import WORTHWHILE, measure_bf16_gain

        plan = self.plan
        with self.terminal.stage("model") as stage:
            torch.manual_seed(plan.seed)
            base = self._base_folder(rows["train"])
            start = self._start_folder(base)
            tokenizer = load.load_tokenizer(start)
            stops = load.stop_ids(tokenizer)
            train = training_tokens(rows["train"], self.paths.data, tokenizer, start, plan.sequence_length, stops)
            validation = tokenize(
                rows["validation"][:: max(1, len(rows["validation"]) // VALIDATION_ROWS)],
                tokenizer,
                plan.sequence_length,
                stops,
            )
            if not len(validation):
                raise DataError("there are no validation rows; the corpus needs families of the validation split")
            if plan.device == "cpu" and plan.precision == "bf16" and plan.origins["precision"].startswith("machine"):
                gain = measure_bf16_gain()
                origin = f"machine: bf16 products measured {gain:.1f}x as fast as fp32"
                plan = plan.with_values({"precision": ("bf16" if gain >= WORTHWHILE else "fp32", origin)})
            model = load.load_to_train(start, base, plan, int(train.lengths.max()))
            model.train()
            trainer = Trainer(
                model,
                train,
                validation,
                plan,
                folder=self.paths.checkpoints,
                listener=lambda event: None,
                world=self.world,
            )
            schedule = Schedule(len(train), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
            hand_out(self.world, plan, model, train, validation)
            if self.checkpoint is None:
                plan, seconds_per_row = self._fit_steps(trainer, plan, schedule)
                forecast = forecast_run(plan, len(train), seconds_per_row * plan.effective_batch_size)
                write_text(self.paths.plan, plan.as_json(forecast))
            else:
                trainer.restore(load_checkpoint(self.checkpoint))
                forecast = {}
            schedule = dataclasses.replace(schedule, batch_size=plan.effective_batch_size, max_steps=plan.max_steps)
            self.plan = trainer.plan = plan
            agree_on_start(self.world, trainer, schedule)
            too_long = f", {train.too_long} rows set aside as too long" if train.too_long else ""
            stage.result = f"{plan.base_model}, {plan.method}, {plan.precision} on {plan.device}{too_long}"
        for line in format_plan(plan, forecast).splitlines():
            self.terminal.say(line)
        return trainer, schedule, tokenizer, base

    def _fit_steps(self, trainer: Any, plan: Plan, schedule: Any) -> tuple[Plan, float]:
        """`plan` with steps that fit its time, and seconds a row; timed with small steps, and again where it keeps the large ones."""
        from overseer_training.training.follower import measure_step

        rows = rows_of_probe(plan)
        while True:
            seconds = measure_step(self.world, trainer, dataclasses.replace(schedule, batch_size=rows)) / rows
            fitted = fit_steps(plan, schedule.rows, seconds * plan.effective_batch_size)
            if rows in (fitted.effective_batch_size, plan.effective_batch_size):
                return fitted, seconds
            rows = plan.effective_batch_size

    def train(self, trainer: Any, schedule: Any) -> Any:
        from overseer_training.reporting.events import MetricsFile, broadcast
        from overseer_training.reporting.tensorboard import TensorBoardWriter
        from overseer_training.training.stop_signals import StopSignals

        with self.terminal.stage("training") as stage, StopSignals() as stop:
            with TensorBoardWriter(self.paths.tensorboard) as tensorboard, self.terminal.training() as display:
                trainer.listener = broadcast(MetricsFile(self.paths.metrics), tensorboard, display)
                outcome = trainer.run(schedule, stop, self.checkpoint)
            stage.result = f"{outcome.reason.replace('_', ' ')} at step {outcome.progress.step}"
        custody.record(
            "training",
            run=self.paths.root.name,
            model=self.plan.base_model[: custody.SHORT],
            rows=outcome.progress.examples,
        )
        return outcome

    def keep_model(self, trainer: Any, tokenizer: Any, base: pathlib.Path) -> None:
        from overseer_training.models.load import save_trained

        trainer.use_best_weights()
        own = self.plan.model_type == "custom"
        unsigned = save_trained(
            trainer.model, tokenizer, self.paths.model,
            base_name=self.plan.base_model, base_folder=None if own else base, method=self.plan.method,
        )  # fmt: skip
        if unsigned:
            self.terminal.say(f"  {unsigned}")

    def evaluate(self, rows: Mapping[str, Sequence[Example]], start: pathlib.Path) -> None:
        """Score the model that training started from, and what came of it, on the same tasks; the gate judges the latter."""
        from overseer_training.measuring import measure_run

        with self.terminal.stage("evaluation") as stage:
            document, gate = measure_run(self.plan, self.paths, rows, start, self.terminal.say)
            before, after = (document[name].get("command_accuracy", {}).get("value") for name in ("base", "trained"))
            stage.result = (
                "commands unscored" if after is None else f"commands right: {before:.1%} before, {after:.1%} after"
            )
        for line in gate.as_lines():
            self.terminal.say(f"  {line}")
        self.terminal.say(f"  all scores: {self.paths.score_table}")

    def _start_folder(self, base: pathlib.Path) -> pathlib.Path:
        """The model that training starts from: the newest one, which is looked at, for a run that goes on from it."""
        from overseer_training.guards.signatures import admit_model

        if not self.plan.start_from:
            return base
        newest = RunPaths(pathlib.Path(self.plan.start_from)).model
        admit_model(newest)
        return newest

    def _base_folder(self, training_rows: Sequence[Example]) -> pathlib.Path:
        if self.plan.model_type == "custom" and self.plan.start_from:
            return self._start_folder(self.paths.root)
        if self.plan.model_type != "custom":
            from overseer_training.models.fetch import prepare_base_model

            return prepare_base_model(self.plan.base_model, self.terminal.say)
        checkpoint = self.plan.custom_model.get("checkpoint")
        if checkpoint:
            from overseer_training.models.fetch import prepare_base_model

            return prepare_base_model(checkpoint, self.terminal.say)
        from overseer_training.models.custom import build_custom_model

        folder = self.paths.root / "initial"
        if not (folder / "tokenizer.json").exists():
            texts = (turn.content for example in training_rows for turn in example.turns)
            build_custom_model(
                self.plan.custom_model, texts, folder, sequence_length=self.plan.sequence_length, seed=self.plan.seed
            )
        return folder

    def export(self) -> None:
        from overseer_training.evaluation.checks import Thresholds
        from overseer_training.release import export_own

        if self.flags.no_export:
            self.terminal.skip_stage("export", "--no-export")
            return
        with self.terminal.stage("export") as stage:
            try:
                thresholds = Thresholds(**self.plan.gate)
                manifest = export_own(self.paths.root, PARITY_REQUESTS, self.terminal.say, thresholds)
            except OverseerError as error:  # the trained model is safe; a missing export is told, and can be made later
                stage.result = f"left out: {error}"
                return
            parity = manifest.get("parity") or {}
            stage.result = (
                f"model.gguf, {parity.get('equal')} of {parity.get('n')} answers the same in llama.cpp"
                if parity
                else "model.gguf"
            )

    def report(self) -> None:
        from overseer_training.reporting.html_report import write_report

        with self.terminal.stage("report") as stage:
            stage.result = str(write_report(self.paths))
        self._promote()
        for line in next_steps(self.paths):
            self.terminal.say(line)

    def _promote(self) -> None:
        """Let `latest` point here, where the gate has nothing against it."""
        from overseer_training.release import promote_run

        latest = self.paths.root.parent / "latest"
        try:
            promote_run(self.paths.root)
        except (ModelError, UsageError) as error:
            self.terminal.say(f"not promoted, {latest} stays as it was: {error}")
            self.terminal.say(f"by hand: .venv/bin/overseer learn promote {self.paths.root} --override REASON")
        else:
            self.terminal.say(f"promoted: {latest} is this run")


def next_steps(paths: RunPaths) -> list[str]:
    """The last lines of a run: what came out, and what to do with it."""
    from overseer_training.evaluation.gate import read_gate

    failed = [check.why for check in read_gate(paths.root).blocking("export")]
    lines = [""]
    if failed:
        lines += ["This model did not pass its gate. Try it; its export says so, and `overseer export` refuses it:"]
        lines += [f"  {why}" for why in failed]
    lines += ["Done. What now:"]
    for text, command in (
        ("ask for a command", f'.venv/bin/overseer ask --model {paths.root} "find the ten largest files below /var"'),
        ("look at the report", str(paths.report)),
        (
            "answer many requests",
            f".venv/bin/overseer predict --model {paths.root} --input requests.jsonl --output answers.jsonl",
        ),
        ("train longer", "make train ARGS='--time-budget 2h'"),
    ):
        lines.append(f"  {text + ':':<22} {command}")
    return lines


def evaluate_again(root: pathlib.Path, tasks: int | None, terminal: Any) -> dict[str, Any]:
    """Measure and judge the run at `root` once more; gives what eval.json has then.

    Args:
        tasks: commands to ask; as many as the plan of the run says where None.

    Raises:
        UsageError: there is no finished run at `root`, or another process holds it.
        DataError: its plan or rows cannot be read.
        ModelError: its model is not what was signed.
    """
    from overseer_training.data.row_file import read_rows
    from overseer_training.guards.signatures import check_signature
    from overseer_training.reporting.html_report import write_report

    paths = RunPaths(root.resolve())
    if not (paths.model / "overseer.json").exists() or not paths.plan.exists():
        raise UsageError(f"{root} is no finished run; train one with: make train, or name a model folder with --model")
    check_signature(paths.model)
    plan = read_plan(paths.plan)
    if tasks is not None:
        plan = plan.with_values({"test_tasks": (tasks, "flag --limit")})
    with only_run_in(paths.root):
        rows = read_rows(paths.data)
        session = Session(plan, paths, terminal, argparse.Namespace(), None)
        session.evaluate(rows, session._start_folder(session._base_folder(rows["train"])))
        write_report(paths)
    return dict(json.loads(paths.evaluation.read_text()))
