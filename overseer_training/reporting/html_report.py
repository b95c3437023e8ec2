"""The report of a run: one HTML file that needs nothing else, not even a network.

Takes a run directory (`RunPaths`), writes `report.html` into it, atomically. Every text from a model, a teacher or a
file is escaped by the template and stripped of characters that hide or reorder text; scripts are forbidden by a
content policy inside the page. Words and figures are chosen here, the layout is `templates/report.html.j2`.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import re
import shlex
import unicodedata
from collections.abc import Callable
from typing import Any

import jinja2

from overseer_training.files import staged_file
from overseer_training.records import RunPaths
from overseer_training.reporting import units
from overseer_training.reporting.collect import RunRecord, collect_run, measure_run
from overseer_training.reporting.comparison import Row, answer_outcome, compare, label_of
from overseer_training.reporting.curves import draw_curves
from overseer_training.reporting.foresight import draw_foresight
from overseer_training.reporting.progress import REASONS

Write = Callable[[float | None], str]

COMMAND = ".venv/bin/overseer"  # from the root of the repository, where `make train` puts it
TEMPLATES = pathlib.Path(__file__).parent / "templates"
SHOWN_ANSWERS = 12  # of each outcome; chosen so that the page stays readable, the rest is in answers.jsonl
LONGEST_TEXT = 2000  # characters of one model answer; a runaway generation must not bury the page
OUTCOMES = {
    "gained": "learned",
    "right": "right before and after",
    "wrong": "wrong before and after",
    "lost": "unlearned",
    "unscored": "unscored",
}
FORECAST_UNITS: dict[str, tuple[Write, float]] = {  # ending of a name -> how it is written, its unit in base units
    "fraction": (units.as_percent, 1),
    "bytes": (units.as_size, 1),
    "gib": (units.as_size, 2**30),
    "seconds": (units.as_duration, 1),
    "minutes": (units.as_duration, 60),
}
FORECAST_NAMES: dict[str, tuple[str, float]] = {  # name in a forecast -> name of a measurement, and its unit in there
    "total_steps": ("steps", 1),
    "training_minutes": ("seconds", 60),
    "peak_memory_gib": ("peak_rss_bytes", 2**30),
}
FORECAST_LABELS = {
    "seconds": "Training time",
    "training_minutes": "Training time",
    "peak_rss_bytes": "Peak memory of this process",
    "peak_memory_gib": "Peak memory of this process",
    "peak_ram_fraction": "Peak share of the machine's RAM",
}
NUMBER_FILTERS: dict[str, Write] = {
    "percent": units.as_percent,
    "size": units.as_size,
    "count": units.as_count,
    "quantity": units.as_quantity,
}


def write_report(paths: RunPaths) -> pathlib.Path:
    """Writes `report.html` from whatever the run directory holds and returns its path.

    Raises:
        DataError: there is no such run directory.
    """
    page = render_report(collect_run(paths))
    with staged_file(paths.report) as staging:
        staging.write_text(page, encoding="utf-8", errors="backslashreplace")
    return paths.report


def render_report(record: RunRecord) -> str:
    rows = compare(record.evaluation)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: _tolerant(text) for name, text in NUMBER_FILTERS.items()})
    environment.filters.update(visible=as_visible, plan_value=as_plan_value)
    return environment.get_template("report.html.j2").render(
        run=record,
        name=record.paths.root.resolve().name,
        rows=rows,
        headline=next((row for row in rows if row.name == "command_accuracy"), None),
        facts=state_facts(record),
        status=state_status(record),
        charts=draw_curves(record),
        foreseen=draw_foresight(record.answers),
        answers=choose_answers(record.answers),
        outcomes=OUTCOMES,
        forecast=compare_forecast(record),
        origins=plan_rows(record.plan.get("values") or {}),
        validations=record.of_kind("validation"),
        notices=record.of_kind("notice"),
        next_steps=suggest_next(record),
        sentence=say_headline,
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )


def say_headline(row: Row) -> str:
    """The result in one sentence; says so when the difference may be chance."""
    if row.trained is None or row.trained.value is None:
        reason = row.trained.reason if row.trained else ""
        return "Command accuracy is unscored" + (f": {reason}." if reason else ".")
    said = f"Of 100 requests, the trained model gets about {round(row.trained.value * 100)} right"
    if row.base is None or row.base.value is None:
        return f"{said}; the base model was not scored."
    said += f", the base model {round(row.base.value * 100)}"
    if row.verdict == "worse":
        return f"{said}. Training made it worse."
    return f"{said}. The intervals do not rule out chance." if row.verdict == "unclear" else f"{said}."


def state_status(record: RunRecord) -> tuple[str, str]:
    """How training ended, and its tone: good, warn or bad."""
    if not record.events:
        return "not trained", "warn"
    if not record.end:
        return "training, or killed before its end", "warn"
    reason = str(record.end.get("reason"))
    tone = "good" if reason in ("finished", "early_stop") else "bad" if reason == "memory_limit" else "warn"
    return REASONS.get(reason, reason), tone


def state_facts(record: RunRecord) -> list[tuple[str, str]]:
    """The run in a few figures, only those that are known."""
    measured, machine = measure_run(record), record.evaluation.get("machine") or {}
    model = " · ".join(str(value) for name in ("base_model", "method") if (value := record.plan_value(name)))
    cores = f", {machine['cores']} cores" if machine.get("cores") else ""
    ram = f", {units.as_size(machine['ram_bytes'])}" if machine.get("ram_bytes") else ""
    facts = [
        ("Model", model),
        ("Machine", f"{machine.get('cpu', '')}{cores}{ram}".strip(", ")),
        (
            "Trained",
            f"{units.as_count(measured['steps'])} steps in {units.as_duration(measured.get('seconds'))}"
            if "steps" in measured
            else "",
        ),
        (
            "Speed",
            f"{units.as_quantity(measured['tokens_per_second'])} tokens/s" if "tokens_per_second" in measured else "",
        ),
        (
            "Best validation loss",
            f"{measured['validation_loss']:.3f} nats at step {record.end.get('best_step', 0):,}"
            if "validation_loss" in measured
            else "",
        ),
        (
            "Peak memory",
            " · ".join(
                text
                for text, known in (
                    (units.as_size(measured.get("peak_rss_bytes")), "peak_rss_bytes" in measured),
                    (
                        f"{units.as_percent(measured.get('peak_ram_fraction'), 0)} of the machine",
                        "peak_ram_fraction" in measured,
                    ),
                )
                if known
            ),
        ),
    ]
    return [(name, value) for name, value in facts if value]


def choose_answers(answers: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Some of each outcome, interleaved, so that the first screen shows right and wrong ones alike."""
    groups: dict[str, list[dict[str, Any]]] = {outcome: [] for outcome in OUTCOMES}
    for answer in answers:
        groups[answer_outcome(answer)].append(answer)
    return [
        (outcome, groups[outcome][index])
        for index in range(SHOWN_ANSWERS)
        for outcome in OUTCOMES
        if index < len(groups[outcome])
    ]


def compare_forecast(record: RunRecord) -> list[tuple[str, str, str]]:
    """(name, forecast, what happened): what happened is a dash where it was not measured."""
    measured = measure_run(record)
    rows = []
    for name, value in (record.plan.get("forecast") or {}).items():
        same, factor = FORECAST_NAMES.get(name, (name, 1))
        happened = measured[same] / factor if same in measured else None
        label = FORECAST_LABELS.get(name) or label_of(re.sub(rf"_({'|'.join(FORECAST_UNITS)})$", "", name))
        rows.append((label, _with_unit(name, value), _with_unit(name, happened)))
    return rows


def plan_rows(values: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """(name, value, origin) in the plan's order; a value without an origin says so."""
    rows = []
    for name, entry in values.items():
        value, origin = (entry.get("value"), entry.get("origin")) if isinstance(entry, dict) else (entry, None)
        rows.append((name, value, str(origin or "unknown")))
    return rows


def suggest_next(record: RunRecord) -> list[tuple[str, str]]:
    """(why, command) for what this run is ready for."""
    root = _shown_path(record.paths.root)
    folder = shlex.quote(root)
    steps: list[tuple[str, str]] = []
    has_stopped = bool(record.events) and record.end.get("reason") not in ("finished", "early_stop")
    if has_stopped and record.last_checkpoint is not None:
        path = shlex.quote(f"{root}/checkpoints/{record.last_checkpoint.name}")
        steps.append(("Go on where it stopped", f"python3 main_training.py --resume-from-checkpoint {path}"))
    if record.paths.model.is_dir():
        steps += [
            ("Ask it something", f'{COMMAND} ask --model {folder} "find the ten largest files below /var"'),
            (
                "Answer many requests",
                f"{COMMAND} predict --model {folder} --input requests.jsonl --output commands.jsonl",
            ),
            ("Score it on your own tasks", f"{COMMAND} evaluate --model {folder} --suite my-suite"),
        ]
        if not record.export and record.gate.get("outcome", "passed") == "passed":
            steps.append(("Export it as GGUF", f"{COMMAND} export --run {folder}"))
    if record.paths.tensorboard.is_dir():
        steps.append(("Look closer at the curves", f"tensorboard --logdir {shlex.quote(f'{root}/tensorboard')}"))
    return steps or [("Train", "make train")]


def as_visible(text: Any) -> str:
    """`text` with control, invisible and direction-changing characters written out, cut at `LONGEST_TEXT`.

    Source: "Trojan Source" (Boucher and Anderson, 2021): what a person reads has to be what would run.
    """
    text = "" if text is None else str(text)
    cut = f"… ({len(text) - LONGEST_TEXT:,} more characters)" if len(text) > LONGEST_TEXT else ""
    return (
        "".join(
            character
            if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
            else f"\\u{ord(character):04x}"
            for character in text[:LONGEST_TEXT]
        )
        + cut
    )


def as_plan_value(value: Any, name: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_limit") and (number := units.as_number(value)) is not None:
        return units.as_percent(number, 0)
    if name.endswith("_seconds") and (number := units.as_number(value)) is not None:
        return units.as_duration(number)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 and name != "seed" else str(value)
    if isinstance(value, list):
        return ", ".join(str(item.get("slug", item)) if isinstance(item, dict) else str(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _tolerant(text: Write) -> Callable[[object], str]:
    """The filter for values straight from a file: what is not a number is a dash."""
    return lambda value: text(units.as_number(value))


def _with_unit(name: str, value: Any) -> str:
    number = units.as_number(value)
    if number is None:
        return units.NOTHING if value is None else str(value)
    if name.endswith("_per_second"):
        return units.as_quantity(number)
    text, unit = FORECAST_UNITS.get(name.rsplit("_", 1)[-1], (None, 1))
    if text is not None:
        return text(number * unit)
    return units.as_count(number) if number == int(number) else units.as_quantity(number)


def _shown_path(path: pathlib.Path) -> str:
    """Relative where the reader most likely stands: in the directory that the run was started from."""
    try:
        return str(path.resolve().relative_to(pathlib.Path.cwd()))
    except ValueError:
        return str(path.resolve())
