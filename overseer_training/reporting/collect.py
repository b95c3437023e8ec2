"""Everything that a run directory says about a run, read once.

Takes `RunPaths` and gives a `RunRecord`. A file that is missing or damaged never stops a report: it becomes a line in
`gaps`. Does not format and does not judge; see `comparison.py` and `html_report.py`.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from overseer_training.errors import DataError
from overseer_training.records import RunPaths
from overseer_training.reporting.events import read_json_lines, read_metrics
from overseer_training.reporting.units import as_number

GAPS = {
    "plan": "The plan is not shown: plan.json is missing.",
    "events": "There are no curves: metrics.jsonl is missing or empty, so training has not started or kept no metrics.",
    "evaluation": "Nothing is scored: eval.json is missing. The evaluation stage writes it.",
    "answers": "There are no sample answers: answers.jsonl is missing. The evaluation stage writes it.",
    "data": "The training data is not counted here: data/manifest.json is missing, so the data stage is not complete.",
}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run as its files tell it; a dictionary or list is empty when its file is missing.

    Attributes:
        events: of the latest attempt: its fresh start and every resumption since.
        gaps: name of the part (`plan`, `events`, …) -> why it is missing, a sentence for people.
    """

    paths: RunPaths
    plan: dict[str, Any]
    events: list[dict[str, Any]]
    evaluation: dict[str, Any]
    answers: list[dict[str, Any]]
    data: dict[str, Any]
    export: dict[str, Any]
    gate: dict[str, Any]
    gaps: dict[str, str]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("kind") == kind]

    def plan_value(self, name: str) -> Any:
        entry = self.plan.get("values", {}).get(name)
        return entry.get("value") if isinstance(entry, dict) else None

    @property
    def start(self) -> dict[str, Any]:
        starts = self.of_kind("start")
        return starts[-1] if starts else {}

    @property
    def end(self) -> dict[str, Any]:
        """Empty while training runs, and when it was killed."""
        return self.events[-1] if self.events and self.events[-1].get("kind") == "end" else {}

    @property
    def last_checkpoint(self) -> pathlib.Path | None:
        """The newest by name; whether it is whole is for `--resume-from-checkpoint` to verify."""
        found = sorted(self.paths.checkpoints.glob("step-*")) if self.paths.checkpoints.is_dir() else []
        return found[-1] if found else None


def collect_run(paths: RunPaths) -> RunRecord:
    """Reads the run directory.

    Raises:
        DataError: there is no such directory.
    """
    if not paths.root.is_dir():
        raise DataError(f"{paths.root} is not a run directory. Try: ls {paths.root.parent}")
    gaps: dict[str, str] = {}
    record = RunRecord(
        paths=paths,
        plan=_read_object(paths.plan, "plan", gaps),
        events=_latest_attempt(_read_lines(paths.metrics, "events", gaps)),
        evaluation=_read_object(paths.evaluation, "evaluation", gaps),
        answers=_read_lines(paths.answers, "answers", gaps),
        data=_read_object(paths.data_manifest, "data", gaps),
        export=_read_object(paths.export / "manifest.json", "export", gaps),
        gate=_read_object(paths.gate, "gate", gaps),
        gaps=gaps,
    )
    for part, sentence in GAPS.items():
        if not getattr(record, part):
            gaps.setdefault(part, sentence)
    return record


def measure_run(record: RunRecord) -> dict[str, float]:
    """What really happened, under the names that a plan's forecast may use; only what was measured."""
    trains = record.of_kind("train")
    steps, seconds = max((event["step"] for event in trains), default=None), seconds_trained(record.events)
    peak_rss = _peak([*trains, record.end], "process_rss_bytes", "peak_rss_bytes")
    measured: dict[str, float | None] = {
        "steps": steps,
        "seconds": seconds,
        "seconds_per_step": seconds / steps if steps and seconds else None,
        "training_rows": as_number(record.data.get("splits", {}).get("train", {}).get("rows")),
        "tokens_per_second": _mean(event.get("tokens_per_second") for event in trains),
        "examples_per_second": _mean(event.get("examples_per_second") for event in trains),
        "tokens": as_number(record.end.get("tokens")),
        "examples": as_number(record.end.get("examples")),
        "validation_loss": as_number(record.end.get("best_validation_loss")),
        "peak_rss_bytes": peak_rss,
        "peak_ram_fraction": _peak([*trains, record.end], "ram_fraction", "peak_ram_fraction"),
        "peak_device_memory_bytes": _peak(trains, "device_memory_bytes"),
    }
    return {name: value for name, value in measured.items() if value is not None}


def seconds_trained(events: list[dict[str, Any]]) -> float | None:
    """Time spent in training over all resumptions, whether `time` goes on or begins again at each `start`."""
    total, previous = 0.0, 0.0
    for event in events:
        now = as_number(event.get("time")) or 0.0
        if event.get("kind") != "start":
            total += max(0.0, now - previous)
        previous = now
    return total if events else None


def _latest_attempt(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A run directory that was trained in twice holds two attempts; a resumption belongs to the one before it."""
    fresh = [
        index
        for index, event in enumerate(events)
        if event.get("kind") == "start" and event.get("resumed_from") is None
    ]
    return events[fresh[-1] :] if fresh else events


def _read_object(path: pathlib.Path, part: str, gaps: dict[str, str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        gaps[part] = f"{path.name} cannot be read: {exc}."
        return {}
    if not isinstance(value, dict):
        gaps[part] = f"{path.name} does not hold a JSON object."
        return {}
    return value


def _read_lines(path: pathlib.Path, part: str, gaps: dict[str, str]) -> list[dict[str, Any]]:
    try:
        return read_metrics(path) if part == "events" else read_json_lines(path) if path.exists() else []
    except (OSError, DataError) as exc:
        gaps[part] = f"{path.name} cannot be read: {exc}"
        return []


def _mean(values: Iterable[Any]) -> float | None:
    numbers = [number for value in values if (number := as_number(value)) is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _peak(events: list[dict[str, Any]], *fields: str) -> float | None:
    numbers = [number for event in events for field in fields if (number := as_number(event.get(field))) is not None]
    return max(numbers, default=None)
