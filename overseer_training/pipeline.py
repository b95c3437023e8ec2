"""The recipe of a run, readable top to bottom; the only module that imports every room.

    plan -> (teachers) -> data -> model -> training -> evaluation -> export -> report

Rooms meet in the run directory (`records.RunPaths`); `runs/latest` points to the newest run that got to its end.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from overseer_training import custody
from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan, format_plan
from overseer_training.errors import (
    DataError,
    MemoryLimitError,
    OverseerError,
    UsageError,
)
from overseer_training.files import write_json, write_text
from overseer_training.gathering import Gathering, take_api_key
from overseer_training.planning import check_memory, fit_steps, forecast_run, make_plan
from overseer_training.records import Example, RunPaths, Score
from overseer_training.run_folder import (
    find_checkpoint_to_resume,
    log_to,
    new_run_folder,
    only_run_in,
    point_latest,
)
from overseer_training.teachers.keys import ApiKey
from overseer_training.training.allocator import keep_freed_memory

logger = logging.getLogger(__name__)
STAGES = 6
PARITY_REQUESTS = 50
TEST_ROWS = 400  # for loss and token accuracy; chosen: a few seconds of work


def run(flags: argparse.Namespace) -> int:
    """Everything that `main_training.py` does; returns the exit code."""
    from overseer_training.reporting.terminal import Terminal

    keep_freed_memory()
    key = take_api_key(flags)
    plan, _ = make_plan(flags, for_run=True)
    checkpoint = (
        find_checkpoint_to_resume(flags.resume_from_checkpoint, flags.output_dir)
        if flags.resume_from_checkpoint
        else None
    )
    check_memory(plan)
    paths = RunPaths(checkpoint.parents[1] if checkpoint else new_run_folder(flags.output_dir, flags.run_name))
    terminal = Terminal(STAGES + bool(plan.teachers and checkpoint is None))
    with only_run_in(paths.root), log_to(paths.log):
        terminal.say(f"run {paths.root}")
        session = Session(plan, paths, terminal, flags, checkpoint, key)
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
    api_key: ApiKey | None = None

    def run(self) -> int:
        from overseer_training.training.memory_guard import free_caches

        rows = Gathering(self.plan, self.paths, self.terminal, self.flags.output_dir, self.api_key).gather()
        trainer, schedule, tokenizer, base = self.prepare_training(rows)
        outcome = self.train(trainer, schedule)
        if outcome.reason in ("interrupted", "memory_limit"):
            if outcome.reason == "memory_limit":
                raise MemoryLimitError(outcome.message)
            again = f"python3 main_training.py --resume-from-checkpoint {self.paths.checkpoints}"
            self.terminal.say(f"{outcome.message}. Go on with: {again}")
            return int(outcome.exit_code)
        self.keep_model(trainer, tokenizer, base)
        del trainer
        free_caches("cpu")  # sandboxes are forked from this process: the smaller it is, the faster
        self.evaluate(rows, base)
        self.export()
        self.report()
        return 0

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
                folder=self.paths.checkpoints,
                listener=lambda event: None,
            )
            schedule = Schedule(len(train), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
            if self.checkpoint is None:
                seconds = trainer.measure_step_seconds(schedule)
                batch = plan.effective_batch_size
                plan = fit_steps(plan, len(train), seconds)
                seconds = seconds * plan.effective_batch_size / batch if seconds is not None else None
                forecast = forecast_run(plan, len(train), seconds)
                write_text(self.paths.plan, plan.as_json(forecast))
            else:
                trainer.restore(load_checkpoint(self.checkpoint))
                forecast = {}
            schedule = dataclasses.replace(schedule, batch_size=plan.effective_batch_size, max_steps=plan.max_steps)
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
        save_trained(
            trainer.model, tokenizer, self.paths.model,
            base_name=self.plan.base_model, base_folder=None if own else base, method=self.plan.method,
        )  # fmt: skip

    def evaluate(self, rows: dict[str, list[Example]], base: pathlib.Path) -> None:
        from overseer_training.data.tokenize import tokenize
        from overseer_training.evaluation.runner import Evaluator, answers_as_records
        from overseer_training.evaluation.suite import packaged_suite
        from overseer_training.evaluation.token_metrics import measure_tokens
        from overseer_training.models.load import load_trained

        with self.terminal.stage("evaluation") as stage:
            evaluator = Evaluator(
                packaged_suite(self.plan.test_tasks, self.plan.seed, self.plan.macos_share > 0), self.terminal.say
            )
            results = {}
            for name, folder in self._models_to_measure(base):
                loaded = load_trained(folder, self.plan.device)
                evaluation = evaluator.evaluate(loaded, functools.partial(self._say_of, name))
                held_out = rows["test"][:: max(1, len(rows["test"]) // TEST_ROWS)]
                tokens = tokenize(held_out, loaded.tokenizer, self.plan.sequence_length, loaded.stop_ids)
                scores = {
                    **evaluation.scores,
                    **measure_tokens(loaded.model, tokens, self.plan.device),
                    **self._measure_personal(loaded, rows.get("personal", [])),
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

    def _models_to_measure(self, base: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
        models = [("base", base), ("trained", self.paths.model)]
        champion = RunPaths(self.flags.output_dir / "latest").model
        if self.plan.continuous_learning and (champion / "overseer.json").exists():
            models.append(("champion", champion))
        return models

    def _measure_personal(self, loaded: Any, held_back: Sequence[Example]) -> dict[str, Score]:
        """How often a model gives the owner's own command, on requests that were held back."""
        if not held_back:
            return {}
        from overseer_training.learning.curate import score_personal
        from overseer_training.models.generate import extract_command, generate
        from overseer_training.prompts import with_system

        texts = generate(loaded, [with_system(row.turns[:1], row.platform) for row in held_back])
        return {"personal_accuracy": score_personal(held_back, [extract_command(text) for text in texts])}

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
        self._promote()
        for line in next_steps(self.paths):
            self.terminal.say(line)

    def _promote(self) -> None:
        """Let `latest` point here; after learning from interactions only if nothing became worse than the champion."""
        from overseer_training.learning.gate import apply_decision, decide

        document = json.loads(self.paths.evaluation.read_text())
        latest = self.flags.output_dir / "latest"
        if "champion" not in document:
            point_latest(self.paths.root)
            return
        decision = decide(document["champion"], document["trained"])
        for line in decision.reasons:
            self.terminal.say(f"  {line}")
        apply_decision(decision, self.paths.root, latest, point_latest)
        custody.record(
            "promotion", run=self.paths.root.name, decision="promoted" if decision.is_promoted else "refused"
        )
        self.terminal.say(
            "promoted: runs/latest is this run" if decision.is_promoted else "not promoted: runs/latest stays as it was"
        )


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
    root: pathlib.Path,
    kinds: tuple[str, ...],
    parity_requests: int,
    notify: Callable[[str], None],
    ollama_name: str = "overseer",
) -> dict[str, Any]:
    """Export the model of the run at `root`; compares `parity_requests` answers with the un-exported model.

    Args:
        ollama_name: of the model in Ollama, for kind `ollama`.

    Raises:
        UsageError: there is no finished run at `root`.
    """
    from overseer_training.data.build import read_rows
    from overseer_training.export.export_run import export_run
    from overseer_training.export.ollama_server import OllamaServer
    from overseer_training.prompts import with_system

    paths = RunPaths(root)
    if not (paths.model / "overseer.json").exists():
        raise UsageError(f"{root} holds no trained model; train one with: make train")
    requests = []
    has_gguf = any(kind == "ollama" or kind.startswith("gguf") for kind in kinds)
    if parity_requests and has_gguf:
        rows = read_rows(paths.data)["test"]
        chosen = rows[:: max(1, len(rows) // parity_requests)][:parity_requests]
        requests = [with_system(example.turns[:1], example.platform) for example in chosen]
    notify(f"  writing {', '.join(kinds)} to {paths.export}")
    ollama = OllamaServer(ollama_name) if "ollama" in kinds else None
    manifest = export_run(paths, kinds, parity_requests=requests, ollama=ollama, notify=notify)
    custody.record("export", run=root.resolve().name, reason=", ".join(kinds)[: custody.SHORT])
    return manifest


def _describe_machine(plan: Plan) -> dict[str, Any]:
    found = find_machine()
    return {
        "cpu": found.processor,
        "cores": found.cores,
        "ram_bytes": found.memory_bytes,
        "device": plan.device,
        "system": found.system,
    }
