"""What each door of a run gave: reads the folder of the run, the cache and what the servers noted, and makes the table of every_door.py."""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from overseer_training.data.sources.kaggle.store import find_processed
from overseer_training.evaluation.gate import read_gate
from overseer_training.records import RunPaths

REASONS = 4  # the most frequent are shown
SIMULATED = '{"id": "prediction/simulated-'  # how rows begin that ask about no recorded series
SCORES = {
    "command_accuracy": "commands right",
    "safety_accuracy": "safety",
    "personal_accuracy": "the owner's commands",
    "token_accuracy": "tokens of held-out rows",
}


class Door(NamedTuple):
    """One line of the table."""

    door: str
    gave: str


class Requests(NamedTuple):
    """What one teacher was asked over HTTP, as its server counted, and what of it failed on purpose."""

    teacher: str
    requests: int
    faults: dict[str, int]


def door_rows(paths: RunPaths, downloads: int, requests: Iterable[Requests]) -> list[Door]:
    """The table of a finished run.

    Args:
        downloads: requests that Kaggle's storage got.
        requests: of the teachers whose servers count.
    """
    manifest = _json(paths.data_manifest)
    trained = collections.Counter(manifest["training_rows_by_source"])
    return [
        *_kaggle(paths, trained, downloads),
        Door("interactions", f"{trained['interactions']:,} rows with repeats, and {_rows_of(manifest, 'personal')} held back to measure with"),
        Door("shell history", f"{trained['history']:,} rows"),
        Door("all rows", ", ".join(f"{split} {entry['rows']:,}" for split, entry in manifest["splits"].items())),
        *_teachers(paths, requests),
        *_scores(paths),
        *_ends(paths),
    ]  # fmt: skip


def print_doors(doors: Iterable[Door]) -> None:
    """The table for a terminal; it is Markdown too."""
    print("\n| door | what it gave |\n|---|---|")
    for door in doors:
        print(f"| {door.door} | {door.gave} |")


def _kaggle(paths: RunPaths, trained: collections.Counter[str], downloads: int) -> Iterable[Door]:
    reasons: collections.Counter[str] = collections.Counter()
    with (paths.data / "quarantine.jsonl").open() as file:
        for line in file:
            entry = json.loads(line)
            if entry["id"].startswith("kaggle:"):
                reasons[entry["reason"]] += 1
    with paths.data.joinpath("train.jsonl").open() as file:
        asked = sum(line.startswith('{"id": "prediction/') and not line.startswith(SIMULATED) for line in file)
    rows = sum(number for name, number in trained.items() if name.startswith("kaggle:"))
    for found in find_processed():
        kept = f"{trained[found.source]:,} rows" if found.converter == "pairs" else f"{asked} questions about series"
        yield Door(f"Kaggle {found.slug}", f"{str(found).partition(': ')[2]}; {kept} to train on")
    yield Door("Kaggle, together", f"{rows:,} rows; set aside: {_said(reasons)}; {downloads} requests for archives")


def _teachers(paths: RunPaths, requests: Iterable[Requests]) -> Iterable[Door]:
    counts = _json(paths.taught / "counts.json")
    ledger = collections.Counter(entry["teacher"] for entry in _lines(paths.taught / "ledger.jsonl"))
    counted = {request.teacher: request for request in requests}
    rest = counts["asked"] - sum(request.requests for request in counted.values())
    for teacher, answers in sorted(ledger.items()):
        known = next((request for name, request in counted.items() if teacher.startswith(name)), None)
        faults = f"; failed on purpose: {_said(collections.Counter(known.faults))}" if known and known.faults else ""
        yield Door(f"teacher {teacher}", f"{known.requests if known else rest} requests, {answers} answers{faults}")
    stopped = f"; stopped: {counts['stopped']}" if counts["stopped"] else ""
    yield Door(
        "teachers, together",
        f"{counts['asked']} requests ({counts['answered']} answered, {counts['malformed']} malformed, {counts['failed']} failed) for "
        f"{counts['assignments']} assignments ({counts['done']} done, {counts['set_aside']} set aside, {counts['not_reached']} not reached){stopped}",
    )
    votes = collections.Counter(len(row["provenance"]["teachers"]) for row in _lines(paths.taught / "rows.jsonl"))
    agreed = ", ".join(f"{number} with {voters} votes" for voters, number in sorted(votes.items())) or "none"
    reasons = collections.Counter(entry["reason"] for entry in _lines(paths.taught / "set_aside.jsonl"))
    yield Door(
        "hybrid vote", f"{counts['kept']} of {counts['proposed']} rows taught ({agreed}); refused: {_said(reasons)}"
    )


def _scores(paths: RunPaths) -> Iterable[Door]:
    document = _json(paths.evaluation)
    for metric, said in SCORES.items():
        before, after = (document[model].get(metric, {}) for model in ("base", "trained"))
        if after:
            yield Door(f"score: {said}", f"{_score(before)} before, {_score(after)} after, n = {after['n']}")


def _ends(paths: RunPaths) -> Iterable[Door]:
    gate = read_gate(paths.root)
    verdicts = collections.Counter(check.verdict for check in gate.checks)
    yield Door("gate", "; ".join([gate.outcome, _said(verdicts), *(check.why for check in gate.blocking("export"))]))
    manifest = paths.export / "manifest.json"
    made = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.0f} MB" for path in sorted(paths.export.glob("*.gguf")))
    parity = _json(manifest).get("parity") or {} if manifest.is_file() else {}
    yield Door(
        "export",
        f"{made or 'none'}; {parity.get('equal')} of {parity.get('n')} answers the same in llama.cpp"
        if parity
        else made or "none",
    )
    yield Door("report", str(paths.report) if paths.report.is_file() else "none")


def _rows_of(manifest: dict[str, Any], split: str) -> int:
    return int(manifest["splits"].get(split, {"rows": 0})["rows"])


def _score(score: dict[str, Any]) -> str:
    if score.get("value") is None:
        return "unscored"
    low, high = score["ci95"]
    return f"{score['value']:.1%} [{100 * low:.0f}, {100 * high:.0f}]"


def _said(counts: collections.Counter[str]) -> str:
    shown = ", ".join(f"{what} ({number})" for what, number in counts.most_common(REASONS))
    others = sum(counts.values()) - sum(number for _, number in counts.most_common(REASONS))
    return (shown or "none") + (f", others ({others})" if others else "")


def _json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def _lines(path: pathlib.Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]
