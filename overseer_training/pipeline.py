"""The recipe of a run, readable top to bottom; the only module that imports every room.

    plan -> data -> model -> training -> evaluation -> export -> report

Rooms meet in the run directory (`records.RunPaths`); `runs/latest` points to the newest run that got to its end.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import fcntl
import functools
import json
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from overseer_training.config import machine as machine_facts
from overseer_training.config.load import CONFIG_PATH, load_configuration
from overseer_training.config.machine import GIB, find_machine
from overseer_training.config.plan import Plan, format_plan, read_plan
from overseer_training.config.resolve import refuse_unavailable, resolve
from overseer_training.config.schema import FIELDS
from overseer_training.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MemoryLimitError,
    OverseerError,
    UsageError,
)
from overseer_training.files import write_json, write_text
from overseer_training.models import choose
from overseer_training.records import Example, RunPaths

logger = logging.getLogger(__name__)
STAGES = 6
PARITY_REQUESTS = 50
TEST_ROWS = 400  # for loss and token accuracy; chosen: a few seconds of work
ESTIMATED_PRODUCTS_PER_SECOND = {
    "bf16": 1.2e11,
    "fp32": 0.4e11,
}  # estimated, of a core while training, for plans made without a probe


# The plan.


def make_plan(flags: argparse.Namespace, *, for_run: bool) -> tuple[Plan, dict[str, Any]]:
    """The plan of `flags` on this machine and what it is expected to cost; imports no torch.

    Raises:
        UsageError: with every problem found.
    """
    configuration = load_configuration(flags.config or CONFIG_PATH)
    if flags.resume_from_checkpoint:
        refuse_unavailable(flags)
        checkpoint = _find_checkpoint_to_resume(flags.resume_from_checkpoint, flags.output_dir)
        plan = _resumed_plan(flags, read_plan(RunPaths(checkpoint.parents[1]).plan), checkpoint)
        return plan, {}
    plan = choose.settle(resolve(flags, configuration, find_machine(), for_run=for_run), find_machine())
    if plan.use_existing_data:
        _existing_data(flags.output_dir)
    return plan, _forecast(plan, _count_rows(plan, flags.output_dir))


def fit_steps(plan: Plan, rows: int, seconds_per_step: float | None) -> Plan:
    """`plan` with steps fitted to its time budget, and warm-up, saves and evaluations fitted to few steps.

    Args:
        rows: of an epoch.
        seconds_per_step: measured or estimated; needed with a time budget.
    """
    steps_per_epoch = -(-rows // plan.effective_batch_size)
    total = min(steps_per_epoch * plan.epochs, plan.max_steps or 10**9)
    changes: dict[str, tuple[Any, str]] = {}
    if plan.time_budget_seconds is not None and seconds_per_step is not None:
        affordable = max(1, int(plan.time_budget_seconds / seconds_per_step))
        if affordable < total:
            left_out = plan.epochs - affordable / steps_per_epoch
            reason = f"fitted to {plan.time_budget_seconds / 60:g} min at {seconds_per_step:.1f} s a step; leaves out {left_out:.1f} of {plan.epochs} epochs"
            changes["max_steps"] = (affordable, reason)
            total = affordable
    for name, divisor in (("warmup_steps", 10), ("eval_steps", 8), ("save_steps", 4)):
        if getattr(plan, name) > total // divisor and not plan.origins.get(name, "").startswith(("flag", "fitted")):
            changes[name] = (max(1, total // divisor), f"fitted: a part of {total} steps")
    return plan.with_values(changes)


def _forecast(plan: Plan, rows: int, seconds_per_step: float | None = None) -> dict[str, Any]:
    """What a run is expected to do and to cost; times are estimates until a probe measured them."""
    parameters, width = choose.model_size(plan)
    tokens_per_row = 49  # measured: mean of 6,400 rows of the corpus with the embedded model's tokenizer
    estimated = seconds_per_step is None
    if seconds_per_step is None:
        speed = ESTIMATED_PRODUCTS_PER_SECOND[plan.precision] * find_machine().cores
        seconds_per_step = plan.effective_batch_size * tokens_per_row * 6 * parameters / speed
    fitted = fit_steps(plan, rows, seconds_per_step)
    steps_per_epoch = -(-rows // plan.effective_batch_size)
    total = min(steps_per_epoch * plan.epochs, fitted.max_steps or 10**9)
    return {
        "training_rows": rows,
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total,
        "epochs_covered": round(total / steps_per_epoch, 2),
        "seconds_per_step": round(seconds_per_step, 2),
        "training_minutes": round(total * seconds_per_step / 60, 1),
        "peak_memory_gib": round(choose.forecast_memory_bytes(parameters, plan, width) / GIB, 2),
        "basis": "estimated from the number of cores" if estimated else "measured on this machine before training",
    }


# The run.


def run(flags: argparse.Namespace) -> int:
    """Everything that `main_training.py` does; returns the exit code."""
    from overseer_training.reporting.terminal import Terminal

    plan, _ = make_plan(flags, for_run=True)
    checkpoint = (
        _find_checkpoint_to_resume(flags.resume_from_checkpoint, flags.output_dir)
        if flags.resume_from_checkpoint
        else None
    )
    _check_memory(plan)
    paths = RunPaths(checkpoint.parents[1] if checkpoint else _new_run_folder(flags))
    terminal = Terminal(STAGES)
    with _only_run_in(paths.root), _log_to(paths.log):
        terminal.say(f"run {paths.root}")
        session = Session(plan, paths, terminal, flags, checkpoint)
        try:
            return session.run()
        except OverseerError as error:
            logger.error("stopped: %s", error, exc_info=error)
            raise


@dataclasses.dataclass
class Session:
    """One run under way: what its stages hand to each other."""

    plan: Plan
    paths: RunPaths
    terminal: Any
    flags: argparse.Namespace
    checkpoint: pathlib.Path | None

    def run(self) -> int:
        rows = self.prepare_data()
        trainer, schedule, tokenizer, base = self.prepare_training(rows)
        outcome = self.train(trainer, schedule)
        if outcome.reason in ("interrupted", "memory_limit"):
            raise_or_tell = f"{outcome.message}. Go on with: python3 main_training.py --resume-from-checkpoint {self.paths.checkpoints}"
            if outcome.reason == "memory_limit":
                raise MemoryLimitError(outcome.message)
            self.terminal.say(raise_or_tell)
            return int(outcome.exit_code)
        self.keep_model(trainer, tokenizer, base)
        del trainer
        self.evaluate(rows, base)
        self.export()
        self.report()
        return 0

    def prepare_data(self) -> dict[str, list[Example]]:
        from overseer_training.data.build import build_rows, read_rows, write_rows

        with self.terminal.stage("data") as stage:
            if self.paths.data_manifest.exists():  # a resumed run
                splits = read_rows(self.paths.data)
            elif self.plan.use_existing_data:
                splits = read_rows(_existing_data(self.flags.output_dir))
                from overseer_training.data.build import Rows

                write_rows(Rows(splits, []), self.paths.data)
            else:
                rows = build_rows(self.plan)
                write_rows(rows, self.paths.data)
                splits = rows.splits
            stage.result = ", ".join(f"{len(examples)} {split}" for split, examples in splits.items())
        return dict(splits)  # type: ignore[arg-type]

    def prepare_training(self, rows: dict[str, list[Example]]) -> tuple[Any, Any, Any, pathlib.Path]:
        """Load the model, tokenize, measure this machine, and freeze the plan."""
        import torch

        from overseer_training.data.tokenize import tokenize
        from overseer_training.models import load
        from overseer_training.training.batches import Schedule
        from overseer_training.training.checkpoints import load_checkpoint
        from overseer_training.training.engine import VALIDATION_ROWS, Trainer
        from overseer_training.training.precision import WORTHWHILE, measure_bf16_gain

        plan = self.plan
        with self.terminal.stage("model") as stage:
            torch.manual_seed(plan.seed)
            base = self._base_folder(rows["train"])
            tokenizer = load.load_tokenizer(base)
            stops = load.stop_ids(tokenizer)
            train = tokenize(rows["train"], tokenizer, plan.sequence_length, stops)
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
            model = load.load_base(base, load.DTYPES[plan.precision], plan.device, int(train.lengths.max()))
            if plan.method in ("lora", "dora"):
                model = load.add_adapter(
                    model,
                    rank=plan.lora_rank,
                    alpha=plan.lora_alpha,
                    dropout=plan.lora_dropout,
                    use_dora=plan.method == "dora",
                )
            model.train()
            trainer = Trainer(
                model,
                train,
                validation,
                plan,
                pad_id=tokenizer.pad_token_id,
                folder=self.paths.checkpoints,
                listener=lambda event: None,
            )
            schedule = Schedule(len(train), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
            if self.checkpoint is None:
                seconds = trainer.measure_step_seconds(schedule)
                plan = fit_steps(plan, len(train), seconds)
                forecast = _forecast(plan, len(train), seconds)
                write_text(self.paths.plan, plan.as_json(forecast))
            else:
                trainer.restore(load_checkpoint(self.checkpoint))
                forecast = {}
            schedule = dataclasses.replace(schedule, max_steps=plan.max_steps)
            self.plan = trainer.plan = plan
            too_long = f", {len(train.too_long)} rows set aside as too long" if train.too_long else ""
            stage.result = f"{plan.base_model}, {plan.method}, {plan.precision} on {plan.device}{too_long}"
        for line in format_plan(plan, forecast).splitlines():
            self.terminal.say(line)
        return trainer, schedule, tokenizer, base

    def train(self, trainer: Any, schedule: Any) -> Any:
        from overseer_training.reporting.events import MetricsFile, broadcast
        from overseer_training.reporting.tensorboard import TensorBoardWriter
        from overseer_training.training.stop_signals import StopSignals

        with self.terminal.stage("training") as stage, StopSignals() as stop:
            with TensorBoardWriter(self.paths.tensorboard) as tensorboard, self.terminal.training() as display:
                trainer.listener = broadcast(MetricsFile(self.paths.metrics), tensorboard, display)
                outcome = trainer.run(schedule, stop, self.checkpoint)
            stage.result = f"{outcome.reason.replace('_', ' ')} at step {outcome.progress.step}"
        return outcome

    def keep_model(self, trainer: Any, tokenizer: Any, base: pathlib.Path) -> None:
        from overseer_training.models.load import save_trained

        trainer.use_best_weights()
        own = self.plan.model_type == "custom"
        save_trained(
            trainer.model, tokenizer, self.paths.model,
            base_name=self.plan.base_model, base_folder=None if own else base, method=self.plan.method,
        )  # fmt: skip

    def evaluate(self, rows: dict[str, list[Example]], base: pathlib.Path) -> None:
        from overseer_training.data.sources.corpus import load_families
        from overseer_training.data.tokenize import tokenize
        from overseer_training.evaluation.runner import Evaluator, answers_as_records
        from overseer_training.evaluation.suite import corpus_suite
        from overseer_training.evaluation.token_metrics import measure_tokens
        from overseer_training.models.load import load_trained

        with self.terminal.stage("evaluation") as stage:
            evaluator = Evaluator(
                corpus_suite(load_families(), self.plan.test_tasks, self.plan.seed), self.terminal.say
            )
            results = {}
            for name, folder in (("base", base), ("trained", self.paths.model)):
                loaded = load_trained(folder, self.plan.device)
                evaluation = evaluator.evaluate(loaded, functools.partial(self._say_of, name))
                held_out = rows["test"][:: max(1, len(rows["test"]) // TEST_ROWS)]
                tokens = tokenize(held_out, loaded.tokenizer, self.plan.sequence_length, loaded.stop_ids)
                scores = {
                    **evaluation.scores,
                    **measure_tokens(loaded.model, tokens, loaded.tokenizer.pad_token_id, self.plan.device),
                }
                results[name] = (scores, evaluation.answers)
                del loaded
            records = answers_as_records(results["base"][1], results["trained"][1])
            write_text(self.paths.answers, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
            document: dict[str, Any] = {
                name: {metric: score.as_dict() for metric, score in scores.items()}
                for name, (scores, _) in results.items()
            }
            document["machine"] = _describe_machine(self.plan)
            write_json(self.paths.evaluation, document)
            before, after = (document[name].get("command_accuracy", {}).get("value") for name in ("base", "trained"))
            stage.result = (
                "commands unscored" if after is None else f"commands right: {before:.1%} before, {after:.1%} after"
            )

    def _say_of(self, name: str, text: str) -> None:
        self.terminal.say(f"  {name}: {text}")

    def _base_folder(self, training_rows: Sequence[Example]) -> pathlib.Path:
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
        if self.flags.no_export:
            self.terminal.skip_stage("export", "--no-export")
            return
        with self.terminal.stage("export") as stage:
            try:
                manifest = export_again(self.paths.root, ("gguf-f16",), PARITY_REQUESTS, self.terminal.say)
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
        _point_latest(self.paths.root)
        for line in next_steps(self.paths):
            self.terminal.say(line)


def next_steps(paths: RunPaths) -> list[str]:
    """The last lines of a run: what came out, and what to do with it."""
    lines = ["", "Done. What now:"]
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


def export_again(
    root: pathlib.Path, kinds: tuple[str, ...], parity_requests: int, notify: Callable[[str], None]
) -> dict[str, Any]:
    """Export the model of the run at `root`; compares `parity_requests` answers with the un-exported model.

    Raises:
        UsageError: there is no finished run at `root`.
    """
    from overseer_training.data.build import read_rows
    from overseer_training.export.export_run import export_run
    from overseer_training.prompts import with_system

    paths = RunPaths(root)
    if not (paths.model / "overseer.json").exists():
        raise UsageError(f"{root} holds no trained model; train one with: make train")
    requests = []
    if parity_requests:
        rows = read_rows(paths.data)["test"]
        chosen = rows[:: max(1, len(rows) // parity_requests)][:parity_requests]
        requests = [with_system(example.turns[:1], example.platform) for example in chosen]
    notify(f"  writing {', '.join(kinds)} to {paths.export}")
    return export_run(paths, kinds, parity_requests=requests)


# Small parts.


def _resumed_plan(flags: argparse.Namespace, plan: Plan, checkpoint: pathlib.Path) -> Plan:
    """The plan of the run that is resumed, with the few values that may change without changing what is learned."""
    changes: dict[str, tuple[Any, str]] = {}
    problems = []
    for field in FIELDS:
        given = getattr(flags, field.name, None)
        if given is None:
            continue
        try:
            value = field.parse(given)
        except ValueError as error:
            problems.append(f"{field.flag} must be {error}, not {given!r}")
            continue
        if field.may_change_on_resume:
            changes[field.name] = (value, f"flag {field.flag}")
        elif value != getattr(plan, field.name):
            problems.append(
                f"{field.flag} {value} would change what the resumed run learns (it has {getattr(plan, field.name)}); start a new run for that"
            )
    for name in ("mac", "resource_efficient", "cpu_only"):
        asked = name.replace("_", "-")
        if getattr(flags, name) and plan.profile != asked:
            problems.append(f"--{asked}: the resumed run was started with profile {plan.profile}; leave the flag out")
    if "micro_batch_size" in changes:  # the step keeps its examples
        batch, micro = plan.effective_batch_size, changes["micro_batch_size"][0]
        if batch % micro:
            problems.append(f"--micro-batch-size must divide the {batch} examples of a step")
        else:
            changes["gradient_accumulation_steps"] = (batch // micro, "the step keeps its examples")
    if problems:
        raise ConfigError(problems)
    return plan.with_values({**changes})


def _find_checkpoint_to_resume(asked: str, runs: pathlib.Path) -> pathlib.Path:
    """The checkpoint that --resume-from-checkpoint means: `latest`, a run, its checkpoints folder, or one checkpoint.

    Raises:
        UsageError: there is none.
    """
    from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints

    if asked == "latest":
        folders = [
            folder
            for folder in runs.glob("*/checkpoints")
            if list_checkpoints(folder) and not folder.parent.is_symlink()
        ]
        if not folders:
            raise UsageError(
                f"--resume-from-checkpoint latest: no run in {runs} has a checkpoint; start one without the flag"
            )
        path = max(folders, key=lambda folder: list_checkpoints(folder)[0].stat().st_mtime)
    else:
        path = pathlib.Path(asked)
        path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        if not path.exists():
            raise UsageError(
                f"--resume-from-checkpoint {asked}: there is no such checkpoint; see runs/*/checkpoints, or use latest"
            )
    try:
        return find_checkpoint(path.resolve(), lambda message: print(f"note: {message}"))
    except CheckpointError as error:
        raise UsageError(f"--resume-from-checkpoint {asked}: {error}") from error


def _existing_data(runs: pathlib.Path) -> pathlib.Path:
    from overseer_training.data.build import find_existing_data

    folder = find_existing_data(runs)
    if folder is None:
        raise UsageError(
            f"--use-existing-data: no run in {runs} has processed data; run once without the flag to make it"
        )
    return folder


def _count_rows(plan: Plan, runs: pathlib.Path) -> int:
    from overseer_training.data.build import count_training_rows

    if plan.use_existing_data:
        manifest = json.loads((_existing_data(runs) / "manifest.json").read_text())
        return int(manifest["splits"]["train"]["rows"])
    return count_training_rows(plan)


def _check_memory(plan: Plan) -> None:
    used, total = machine_facts.memory_used_bytes(), machine_facts.memory_limit_bytes()
    if used / total > plan.ram_limit:
        raise MemoryLimitError(
            f"RAM is {used / total:.0%} in use before anything starts, above the limit of {plan.ram_limit:.0%}; most is used by "
            f"{', '.join(machine_facts.largest_memory_users())}. Close programs, or raise the limit with --ram-limit."
        )


def _new_run_folder(flags: argparse.Namespace) -> pathlib.Path:
    name = flags.run_name or datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    if not name or "/" in name or name in (".", "..", "latest"):
        raise UsageError(f"--run-name {name!r} cannot be a folder name; use letters, digits, - and _")
    folder = pathlib.Path(flags.output_dir) / name
    if folder.exists():
        raise UsageError(f"{folder} exists; choose another --run-name, or go on with --resume-from-checkpoint {folder}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--output-dir: {folder} cannot be made: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def _only_run_in(folder: pathlib.Path) -> Iterator[None]:
    """Hold the run directory; a lock dies with its process, so that none is ever stale."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"another process is training in {folder}; wait for it, or start a new run") from error
        yield


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


@contextlib.contextmanager
def _log_to(path: pathlib.Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger("overseer_training")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def _point_latest(folder: pathlib.Path) -> None:
    link = folder.parent / "latest"
    staging = folder.parent / f".latest-{os.getpid()}"
    staging.symlink_to(folder.name)
    staging.replace(link)


def _describe_machine(plan: Plan) -> dict[str, Any]:
    found = find_machine()
    return {
        "cpu": found.processor,
        "cores": found.cores,
        "ram_bytes": found.memory_bytes,
        "device": plan.device,
        "system": found.system,
    }
