"""Commands for this machine's telemetry: start, stop, status, export, and an outlook by a trained model."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import sys
import time
from typing import Any

from overseer_training.commands.model import add_model
from overseer_training.config.flags import Parser
from overseer_training.errors import UsageError

LIMITS = {
    "disk_percent": (90.0, 6),
    "memory_percent": (95.0, 6),
    "cpu_percent": (95.0, 1),
}  # limit, hours ahead; chosen among the hours that models learn (telemetry.questions.HORIZON_HOURS)


def add(commands: Any) -> None:
    """Add the parsers of this topic."""
    parser = commands.add_parser(
        "telemetry", help="what this machine does over time, and what comes next", allow_abbrev=False
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser, required=True)
    start = actions.add_parser("start", help="collect in the background, until stop", allow_abbrev=False)
    start.add_argument("--interval", type=float, default=10.0, metavar="SECONDS", help="between samples (10)")
    start.set_defaults(run=_start)
    actions.add_parser("stop", help="end the collector; what was stored stays", allow_abbrev=False).set_defaults(
        run=_stop
    )
    actions.add_parser("status", help="whether it runs, and what is stored", allow_abbrev=False).set_defaults(
        run=_status
    )
    export = actions.add_parser("export", help="all that is stored as .csv or .jsonl", allow_abbrev=False)
    export.add_argument("target", type=pathlib.Path, metavar="FILE")
    export.set_defaults(run=_export)
    outlook = actions.add_parser("outlook", help="what a model expects of the next hours", allow_abbrev=False)
    add_model(outlook)
    outlook.set_defaults(run=_outlook)


def _start(flags: argparse.Namespace) -> int:
    from overseer_training.telemetry import background

    if flags.interval <= 0:
        raise UsageError(f"--interval must be above 0 seconds, not {flags.interval:g}")
    status = background.start(background.default_folder(), interval_seconds=flags.interval)
    print(f"collecting every {flags.interval:g} s (process {status.pid}) into {background.default_folder()}")
    return 0


def _stop(flags: argparse.Namespace) -> int:
    from overseer_training.telemetry import background

    background.stop(background.default_folder())
    print("stopped")
    return 0


def _status(flags: argparse.Namespace) -> int:
    from overseer_training.telemetry import background

    status = background.status(background.default_folder())
    print(f"collector: {f'process {status.pid}' if status.pid else 'not running; overseer telemetry start'}")
    if status.first is not None and status.last is not None:
        first, last = (
            datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M") for at in (status.first, status.last)
        )
        print(f"stored: {status.rows} rows from {first} to {last}, {status.size_bytes / 2**20:.1f} MiB")
    return 0


def _export(flags: argparse.Namespace) -> int:
    from overseer_training.telemetry import background

    print(f"{background.export(background.default_folder(), flags.target)} rows written to {flags.target}")
    return 0


def _outlook(flags: argparse.Namespace) -> int:
    from overseer_training.telemetry import background
    from overseer_training.telemetry.own import newest_window
    from overseer_training.telemetry.questions import CAUSE_METRICS
    from overseer_training.telemetry.store import Store

    database = background.default_folder() / background.DATABASE
    if not database.is_file():
        raise UsageError("there is no telemetry yet; collect some with: overseer telemetry start")
    with Store(database) as store:
        window = newest_window(store, time.time())
    asked: list[tuple[str, dict[str, Any]]] = [
        ("is the last hour abnormal?", {"type": "anomaly", "span_seconds": 3600})
    ]
    if set(window["series"]) >= CAUSE_METRICS:
        asked.append(("what goes on?", {"type": "cause"}))
    for metric, (limit, hours) in LIMITS.items():
        if metric in window["series"]:
            question = {"type": "threshold", "metric": metric, "limit": limit, "horizon_seconds": hours * 3600}
            asked.append((f"{metric.removesuffix('_percent')} above {limit:.0f} % within {hours} h?", question))
    _answer(flags.model, window, asked)
    return 0


def _answer(model: pathlib.Path, window: dict[str, Any], asked: list[tuple[str, dict[str, Any]]]) -> None:
    """Print what `model` says to each of (words, question) about `window`."""
    from overseer_training.models.generate import generate
    from overseer_training.models.load import load_trained
    from overseer_training.prompts import with_system
    from overseer_training.records import Turn
    from overseer_training.telemetry.wording import render

    loaded = load_trained(model)
    prompts = [with_system([Turn("user", render(window, question))]) for _, question in asked]
    for (words, _), text in zip(asked, generate(loaded, prompts), strict=True):
        print(f"{words:<36} {text.splitlines()[0] if text else 'no answer'}")
    print("a small model's guess from simple statistics; see its scores in the report", file=sys.stderr)
