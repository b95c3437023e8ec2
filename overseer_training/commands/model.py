"""Commands for trained models: ask, predict, evaluate, export, report."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from overseer_training.errors import OverseerError, UsageError

LATEST = pathlib.Path("runs/latest")
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
        "evaluate", help="score a model by running its commands in a sandbox", allow_abbrev=False
    )
    add_model(evaluate)
    evaluate.add_argument(
        "--suite", type=pathlib.Path, help="folder with tasks.jsonl and fixtures/; without it the corpus's test split"
    )
    evaluate.add_argument("--answers", type=pathlib.Path, help="write each answer with its verdict to this file")
    evaluate.add_argument("--limit", type=int, default=100000, help="at most so many tasks of the corpus's test split")
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
    remember(" ".join(flags.request), reply.command)
    if flags.explain:
        turns += [Turn("assistant", reply.command), Turn("user", EXPLAIN_REQUEST)]
        print(f"# {backend.answer(with_system(turns, platform), Settings()).text}")
    return 0


def _predict(flags: argparse.Namespace) -> int:
    from overseer_training.prediction_file import predict_file

    count = predict_file(
        flags.model, flags.input, flags.output, batch_size=flags.batch_size, max_new_tokens=flags.max_new_tokens
    )
    print(f"{count} answers written to {flags.output}", file=sys.stderr)
    return 0


def _evaluate(flags: argparse.Namespace) -> int:
    from overseer_training.config.machine import find_machine
    from overseer_training.evaluation.runner import Evaluator
    from overseer_training.evaluation.suite import load_suite, packaged_suite
    from overseer_training.files import write_text
    from overseer_training.models.load import load_trained

    suite = (
        load_suite(flags.suite)
        if flags.suite
        else packaged_suite(flags.limit, seed=0, with_macos=find_machine().system == "macOS")
    )
    loaded = load_trained(flags.model)
    evaluation = Evaluator(suite, say_to_stderr).evaluate(loaded, say_to_stderr)
    if flags.answers:
        lines = [
            {"id": a.question.id, "query": a.question.query, "command": a.command, "equal": a.equal, "reason": a.reason}
            for a in evaluation.answers
        ]
        write_text(flags.answers, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    if flags.json:
        print(json.dumps({name: score.as_dict() for name, score in evaluation.scores.items()}, indent=2))
        return 0
    for name, score in evaluation.scores.items():
        print(format_score(name, score.as_dict()))
    return 0


def format_score(name: str, score: dict[str, object]) -> str:
    """One line: name, value, interval, n, and what is unscored and why."""
    value, interval = score["value"], score["ci95"]
    is_share = name.endswith("accuracy")
    shown = "unscored" if value is None else f"{value:.1%}" if is_share else f"{value:.3g}"
    if interval is not None:
        low, high = interval  # type: ignore[misc]
        shown += f" [{low:.1%}, {high:.1%}]" if is_share else f" [{low:.3g}, {high:.3g}]"  # type: ignore[has-type]
    unscored = f", {score['unscored']} unscored: {score['reason']}" if score["unscored"] else ""
    return f"{name:<30} {shown}  (n = {score['n']}{unscored})"


def _export(flags: argparse.Namespace) -> int:
    from overseer_training import pipeline

    pipeline.export_again(flags.run_folder, tuple(flags.to or ("gguf-f16",)), flags.parity, print, flags.name)
    return 0


def _report(flags: argparse.Namespace) -> int:
    from overseer_training.records import RunPaths
    from overseer_training.reporting.html_report import write_report

    if not flags.run_folder.is_dir():
        raise UsageError(f"there is no run at {flags.run_folder}; train one with: make train")
    print(write_report(RunPaths(flags.run_folder)))
    return 0


def say_to_stderr(message: str) -> None:
    """A note beside the output."""
    print(message, file=sys.stderr)
