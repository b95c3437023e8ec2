"""Commands for trained models: ask, predict, evaluate, export, report."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from overseer_training.errors import OverseerError, UsageError

LATEST = pathlib.Path("runs/latest")
TASKS = 400  # commands that a model is asked without a suite; as many as training_config.py has
KINDS_OF_EXPORT = (
    *("gguf-f16", "gguf-bf16", "gguf-f32", "gguf-q8_0", "gguf-q4_k_m"),
    *("safetensors", "safetensors-f16", "adapter", "ollama"),
)  # a test compares them with what the room can do


def add(commands: Any) -> None:
    """Add the parsers of this topic."""
    ask = commands.add_parser("ask", help="a command for a request; it is printed, never run", allow_abbrev=False)
    ask.add_argument("request", nargs="+", help="what you want, in your words")
    ask.add_argument("--explain", action="store_true", help="also say what the command does")
    ask.add_argument("--platform", choices=("linux", "macos"), help="the system the command is for (this one)")
    add_model(ask)
    ask.set_defaults(run=_ask)

    predict = commands.add_parser(
        "predict", help="commands for many requests, from and to JSON lines", allow_abbrev=False
    )
    add_model(predict)
    predict.add_argument(
        "--input", type=pathlib.Path, required=True, help='lines of {"id", "query" | "messages", "system"?}'
    )
    predict.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        help='lines of {"id", "command", "text"}; ids in it are not asked again',
    )
    predict.add_argument("--batch-size", type=int, default=32)
    predict.add_argument("--max-new-tokens", type=int, default=96)
    predict.set_defaults(run=_predict)

    evaluate = commands.add_parser(
        "evaluate", help="score models by running their commands in a sandbox", allow_abbrev=False
    )
    evaluate.add_argument(
        "run_folder", nargs="?", type=pathlib.Path, metavar="RUN",
        help="a run, measured and judged again: its base against what it trained (runs/latest)",
    )  # fmt: skip
    evaluate.add_argument("--model", type=pathlib.Path, metavar="DIR", help="one model alone, of a run or model folder")
    evaluate.add_argument(
        "--suite",
        type=pathlib.Path,
        help="folder with tasks.jsonl and fixtures/, for --model; without it the packaged tasks",
    )
    evaluate.add_argument(
        "--answers", type=pathlib.Path, help="write each answer of --model with its verdict to this file"
    )
    evaluate.add_argument(
        "--limit", type=int, metavar="N", help=f"commands of the packaged tasks (of the run, or {TASKS})"
    )
    evaluate.add_argument("--json", action="store_true", help="print scores as JSON")
    evaluate.set_defaults(run=_evaluate)

    export = commands.add_parser("export", help="a run's model as GGUF or safetensors", allow_abbrev=False)
    export.add_argument(
        "--run", type=pathlib.Path, default=LATEST, dest="run_folder", metavar="DIR", help="the run (runs/latest)"
    )
    export.add_argument("--to", action="append", choices=KINDS_OF_EXPORT, help="may be given several times (gguf-f16)")
    export.add_argument(
        "--parity", type=int, default=50, metavar="N", help="compare N answers with the un-exported model (50)"
    )
    export.add_argument("--name", default="overseer", help="of the model in Ollama, with --to ollama (overseer)")
    add_override(export)
    export.set_defaults(run=_export)

    report = commands.add_parser("report", help="write report.html of a run again", allow_abbrev=False)
    report.add_argument(
        "--run", type=pathlib.Path, default=LATEST, dest="run_folder", metavar="DIR", help="the run (runs/latest)"
    )
    report.set_defaults(run=_report)


def add_model(parser: argparse.ArgumentParser) -> None:
    """The option that names a model."""
    parser.add_argument(
        "--model", type=pathlib.Path, default=LATEST, metavar="DIR", help="a run or model folder (runs/latest)"
    )


def add_override(parser: argparse.ArgumentParser) -> None:
    """The option that lets a run pass whose gate failed."""
    parser.add_argument(
        "--override",
        default="",
        metavar="REASON",
        help="although the gate of the run failed; the audit log keeps the reason",
    )


def _ask(flags: argparse.Namespace) -> int:
    from overseer_training.commands.learn import remember
    from overseer_training.config.machine import find_machine
    from overseer_training.guards.judge import format_verdict
    from overseer_training.prompts import EXPLAIN_REQUEST, with_system
    from overseer_training.records import Platform, Turn
    from overseer_training.serving.backends import Settings, load_backend
    from overseer_training.serving.reply import judge_answer

    platform: Platform = flags.platform or ("macos" if find_machine().system == "macOS" else "linux")
    turns = [Turn("user", " ".join(flags.request))]
    backend = load_backend(flags.model)
    reply = judge_answer(backend.answer(with_system(turns, platform), Settings()))
    if not reply.command:
        raise OverseerError("the model gave no command; say it in other words")
    print(reply.command if reply.verdict.decision != "refuse" else f"# {reply.command}")
    if reply.verdict.decision != "allow":
        say_to_stderr(format_verdict(reply.verdict))
    if flags.explain:
        turns += [Turn("assistant", reply.command), Turn("user", EXPLAIN_REQUEST)]
        print(f"# {backend.answer(with_system(turns, platform), Settings()).text}")
    try:
        remember(" ".join(flags.request), reply.command)
    except OverseerError as error:  # a locked key, say: the answer is there all the same
        say_to_stderr(f"this request is not kept to learn from: {error}")
    return 0


def _predict(flags: argparse.Namespace) -> int:
    make_place("--output", flags.output)
    from overseer_training.prediction_file import predict_file

    count = predict_file(
        flags.model, flags.input, flags.output, batch_size=flags.batch_size, max_new_tokens=flags.max_new_tokens
    )
    print(f"{count} answers written to {flags.output}", file=sys.stderr)
    return 0


def _evaluate(flags: argparse.Namespace) -> int:
    if flags.limit is not None and flags.limit < 0:
        raise UsageError(f"--limit must be 0 or more, not {flags.limit}")
    if flags.model is None and flags.suite is None:
        return _evaluate_run(flags)
    if flags.run_folder is not None:
        raise UsageError(f"a run is scored on the packaged tasks; for one model say --model {flags.run_folder}")
    return _evaluate_model(flags)


def _evaluate_run(flags: argparse.Namespace) -> int:
    from overseer_training import pipeline
    from overseer_training.records import RunPaths
    from overseer_training.reporting.terminal import Terminal

    root = flags.run_folder or LATEST
    if flags.answers:
        raise UsageError(f"--answers is for --model; those of a run are in {RunPaths(root).answers}")
    document = pipeline.evaluate_again(root, flags.limit, Terminal(1, sys.stderr))
    print(json.dumps(document, indent=2) if flags.json else RunPaths(root).score_table.read_text().rstrip())
    return 0


def _evaluate_model(flags: argparse.Namespace) -> int:
    if flags.answers:
        make_place("--answers", flags.answers)
    from overseer_training.config.machine import find_machine
    from overseer_training.evaluation.runner import Evaluator
    from overseer_training.evaluation.suite import load_suite
    from overseer_training.files import write_text
    from overseer_training.measuring import make_suite
    from overseer_training.models.load import load_trained
    from overseer_training.reporting.score_table import format_scores

    if flags.suite:
        suite = load_suite(flags.suite)
    else:
        tasks = TASKS if flags.limit is None else flags.limit
        suite = make_suite(tasks, seed=0, with_macos=find_machine().system == "macOS")
    model = flags.model or LATEST
    evaluation = Evaluator(suite, say_to_stderr).evaluate(load_trained(model), say_to_stderr)
    scores = {name: score.as_dict() for name, score in evaluation.scores.items()}
    table = format_scores({"trained": scores}, f"Scores of {model}")
    print(json.dumps(scores, indent=2) if flags.json else table.rstrip(), flush=True)
    if flags.answers:  # after the scores, which took long and need no disk
        lines = [
            {"id": a.question.id, "query": a.question.query, "command": a.command, "equal": a.equal, "reason": a.reason}
            for a in evaluation.answers
        ]
        write_text(flags.answers, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return 0


def _export(flags: argparse.Namespace) -> int:
    from overseer_training.release import export_run_folder

    kinds = tuple(flags.to or ("gguf-f16",))
    export_run_folder(flags.run_folder, kinds, flags.parity, print, flags.name, flags.override)
    return 0


def _report(flags: argparse.Namespace) -> int:
    from overseer_training.records import RunPaths
    from overseer_training.reporting.html_report import write_report

    if not flags.run_folder.is_dir():
        raise UsageError(f"there is no run at {flags.run_folder}; train one with: make train")
    print(write_report(RunPaths(flags.run_folder)))
    return 0


def make_place(option: str, path: pathlib.Path) -> None:
    """Make the folder of a file that a command will write, before the work that the file is for.

    Raises:
        UsageError: `path` is a folder, or its folder cannot be made.
    """
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder; name a file, such as {path / 'answers.jsonl'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option}: {path.parent} cannot be made: {error.strerror}; name another file") from error


def say_to_stderr(message: str) -> None:
    """A note beside the output."""
    print(message, file=sys.stderr)
