"""The commands: `main_training.py` and `overseer`. Parses, calls a room, turns errors into one line and an exit code.

Rooms are imported inside the functions that need them, so that `--help` and `--plan` answer without loading torch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import pathlib
import random
import signal
import sys
from collections.abc import Callable, Sequence

from overseer_training.config.flags import Parser, build_parser
from overseer_training.errors import OverseerError, UsageError

LATEST = pathlib.Path("runs/latest")
COMPOSED_PROOFS = 200  # of each composition, when the whole corpus is verified
KINDS_OF_EXPORT = ("gguf-f16", "gguf-bf16", "gguf-f32", "gguf-q8_0", "safetensors")


def train_main(arguments: Sequence[str]) -> int:
    """`main_training.py` and `overseer train`."""
    return _guarded(lambda: _train(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """`overseer COMMAND …`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        return train_main(arguments[1:])
    return _guarded(lambda: _run_command(arguments))


def _guarded(run: Callable[[], int]) -> int:
    """Run a command; a person sees one line, the log has the traceback, the exit code is documented in errors.py."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        return run()
    except OverseerError as error:
        logging.getLogger(__name__).debug("failed", exc_info=error)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:  # rooms import what they need when they are called
        print(
            f"error: {error.name} is not installed for this Python; run: make train (it sets up .venv)", file=sys.stderr
        )
        return UsageError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")
        return 0


def _train(arguments: Sequence[str]) -> int:
    from overseer_training import pipeline, planning

    flags = build_parser().parse_args(arguments)
    if flags.plan:
        plan, forecast = planning.make_plan(flags, for_run=False)
        print(plan.as_json(forecast), end="")
        return 0
    return pipeline.run(flags)


def _run_command(arguments: list[str]) -> int:
    flags = _build_parser().parse_args(arguments)
    if not hasattr(flags, "run"):
        raise UsageError("give a command: train, ask, predict, evaluate, export, report or data; see overseer --help")
    code: int = flags.run(flags)
    return code


def _build_parser() -> Parser:
    parser = Parser(
        prog="overseer",
        description="Uses what was trained. `overseer train` takes the flags of main_training.py.",
        epilog='example: overseer ask "list the ten largest files below /var"',
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    commands.add_parser("train", help="train a model (see main_training.py --help)", add_help=False)

    ask = commands.add_parser("ask", help="a command for a request; it is printed, never run", allow_abbrev=False)
    ask.add_argument("request", nargs="+", help="what you want, in your words")
    ask.add_argument("--explain", action="store_true", help="also say what the command does")
    ask.add_argument("--platform", choices=("linux", "macos"), help="the system the command is for (this one)")
    _add_model(ask)
    ask.set_defaults(run=_ask)

    predict = commands.add_parser(
        "predict", help="commands for many requests, from and to JSON lines", allow_abbrev=False
    )
    _add_model(predict)
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
    _add_model(evaluate)
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
    export.set_defaults(run=_export)

    report = commands.add_parser("report", help="write report.html of a run again", allow_abbrev=False)
    report.add_argument(
        "--run", type=pathlib.Path, default=LATEST, dest="run_folder", metavar="DIR", help="the run (runs/latest)"
    )
    report.set_defaults(run=_report)

    data = commands.add_parser("data", help="what the corpus holds, and its proof", allow_abbrev=False)
    actions = data.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser, required=True)
    verify = actions.add_parser("verify", help="run every command of the corpus in its fixture", allow_abbrev=False)
    verify.add_argument("files", nargs="*", type=pathlib.Path, help="corpus files; all without any")
    verify.add_argument("--sample", type=int, metavar="N", help="only N families and dialogues, drawn at random")
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (0)")
    verify.set_defaults(run=_verify)
    sources = actions.add_parser("sources", help="what there is to learn from on this machine", allow_abbrev=False)
    sources.add_argument("files", nargs="*", help="files of your own: what they would give")
    sources.set_defaults(run=_sources)
    overlap = actions.add_parser(
        "overlap", help="whether training rows share texts with a benchmark of yours", allow_abbrev=False
    )
    overlap.add_argument("benchmark", type=pathlib.Path, help="a folder or file (JSON, CSV, text)")
    overlap.add_argument(
        "--run", type=pathlib.Path, default=LATEST, dest="run_folder", metavar="DIR", help="the run (runs/latest)"
    )
    overlap.set_defaults(run=_overlap)
    repairs = actions.add_parser(
        "repairs", help="make rows of error recovery: run broken forms of the corpus's commands", allow_abbrev=False
    )
    repairs.add_argument("--each", type=int, default=1, metavar="N", help="repairs of a family, at most (1)")
    repairs.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("corpus/repairs.jsonl"), metavar="FILE",
        help="a file of JSON lines (corpus/repairs.jsonl)",
    )  # fmt: skip
    repairs.set_defaults(run=_make_repairs)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=pathlib.Path, default=LATEST, metavar="DIR", help="a run or model folder (runs/latest)"
    )


def _ask(flags: argparse.Namespace) -> int:
    from overseer_training.config.machine import find_machine
    from overseer_training.models.generate import extract_command, generate
    from overseer_training.models.load import load_trained
    from overseer_training.prompts import EXPLAIN_REQUEST, with_system
    from overseer_training.records import Platform, Turn

    platform: Platform = flags.platform or ("macos" if find_machine().system == "macOS" else "linux")
    turns = [Turn("user", " ".join(flags.request))]
    loaded = load_trained(flags.model)
    command = extract_command(generate(loaded, [with_system(turns, platform)])[0])
    if not command:
        raise OverseerError("the model gave no command; say it in other words")
    print(command)
    if flags.explain:
        turns += [Turn("assistant", command), Turn("user", EXPLAIN_REQUEST)]
        print(f"# {generate(loaded, [with_system(turns, platform)])[0]}")
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
    evaluation = Evaluator(suite, _to_stderr).evaluate(loaded, _to_stderr)
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

    pipeline.export_again(flags.run_folder, tuple(flags.to or ("gguf-f16",)), flags.parity, print)
    return 0


def _report(flags: argparse.Namespace) -> int:
    from overseer_training.records import RunPaths
    from overseer_training.reporting.html_report import write_report

    if not flags.run_folder.is_dir():
        raise UsageError(f"there is no run at {flags.run_folder}; train one with: make train")
    print(write_report(RunPaths(flags.run_folder)))
    return 0


def _verify(flags: argparse.Namespace) -> int:
    from overseer_training.data.compose import load_compositions
    from overseer_training.data.sources.corpus import load_families, load_fixture_scripts
    from overseer_training.data.sources.dialogues import load_dialogues
    from overseer_training.evaluation.proof import (
        Proof,
        Unit,
        format_counts,
        format_proof,
        prove,
        prove_composition,
    )
    from overseer_training.evaluation.sandbox import find_sandbox

    if flags.sample is not None and flags.sample < 1:
        raise UsageError(f"--sample must be 1 or more, not {flags.sample}")
    units: list[Unit] = []
    for path in flags.files:
        units += load_dialogues(path) if path.parent.name == "dialogues" else load_families(path)
    units = units or [*load_families(), *load_dialogues()]
    if flags.sample is not None:
        units = random.Random(flags.seed).sample(units, min(flags.sample, len(units)))
    proofs: list[Proof] = []
    scripts, sandbox = load_fixture_scripts(), find_sandbox()
    composed = 0 if flags.files else flags.sample or COMPOSED_PROOFS
    compositions = load_compositions()
    samples = (prove_composition(found, composed, scripts, sandbox, flags.seed) for found in compositions)
    total = len(units) + composed * len(compositions)
    for proof in itertools.chain(prove(units, scripts, sandbox), *samples):
        proofs.append(proof)
        for line in format_proof(proof):
            print(line, flush=True)
        if sys.stderr.isatty() or len(proofs) % 100 == 0:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{len(proofs)} of {total}", end=end, file=sys.stderr, flush=True)
    print(format_counts(units, proofs))
    return 1 if any(proof.problems for proof in proofs) else 0


def _sources(flags: argparse.Namespace) -> int:
    from overseer_training.data.build import read_source
    from overseer_training.data.sources import history, manual, tldr
    from overseer_training.data.sources.corpus import load_families

    families = load_families()
    print(
        f"corpus: {len(families)} families, {sum(len(f.wordings) for f in families)} wordings, always used (Apache-2.0)"
    )
    cache = tldr.find_cache()
    found = (
        f"{len(read_source('tldr')[0])} rows in {cache}, used with --sources tldr"
        if cache
        else "no client's cache here"
    )
    print(f"tldr: {found} (CC-BY-4.0)")
    histories = history.find_histories()
    if histories:
        shells = ", ".join(f"{len(history.read_commands(found))} commands of {found.shell}" for found in histories)
        print(f"history: {shells}; {len(read_source('history')[0])} rows, used with --sources history (yours)")
    else:
        print("history: none of bash, zsh, fish or atuin in this home directory")
    pages = manual.find_pages()
    print(f"manual: {len(pages)} pages of installed programs" + (", used with --sources manual" if pages else ""))
    for file in flags.files:
        rows, unusable = read_source(file)
        print(f"{file}: {len(rows)} rows, {len(unusable)} unusable, used with --sources {file}")
    return 0


def _overlap(flags: argparse.Namespace) -> int:
    from overseer_training.data.build import read_rows
    from overseer_training.data.overlap import find_overlaps
    from overseer_training.records import RunPaths

    if not flags.benchmark.exists():
        raise UsageError(f"there is no {flags.benchmark}; give a folder or file of the benchmark")
    rows = read_rows(RunPaths(flags.run_folder).data)["train"]
    count = 0
    for overlap in find_overlaps(rows, flags.benchmark):
        count += 1
        print(f"{overlap.kind:<8} {overlap.row}  {overlap.file}: {overlap.text[:100]!r}")
    print(f"{count} turns of {len(rows)} training rows overlap with {flags.benchmark}")
    return 1 if count else 0


def _make_repairs(flags: argparse.Namespace) -> int:
    from overseer_training.data.sources.corpus import load_families, load_fixture_scripts
    from overseer_training.evaluation.mistakes import make_repairs
    from overseer_training.evaluation.sandbox import find_sandbox
    from overseer_training.files import write_text

    repairs = make_repairs(load_families(), load_fixture_scripts(), find_sandbox(), flags.each)
    lines = [repair.as_line() for repair in repairs]
    write_text(flags.output, "".join(lines))
    print(f"{len(lines)} repairs written to {flags.output}")
    return 0


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
