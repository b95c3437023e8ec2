"""The report is one valid file, says what is missing, and no answer of a model can become part of the page."""

from __future__ import annotations

import html.parser
import json
import pathlib
import re

import pytest

from overseer_training.errors import DataError
from overseer_training.records import RunPaths
from overseer_training.reporting.html_report import as_visible, write_report

VOID = {"meta", "link", "input", "br"}
HOSTILE = "</code></pre><script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>\"'>{{ 7 * 7 }}"


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "dd", "dt", "p") else ""

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def report(paths: RunPaths) -> tuple[str, Page]:
    text = write_report(paths).read_text(encoding="utf-8")
    return text, Page(text)


def words(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


def test_report_parses_and_shows_every_part(run: RunPaths) -> None:
    _, page = report(run)
    said = words(page)
    for part in (
        "2.0 % → 61.3 %",
        "Of 100 requests, the trained model gets about 61 right, the base model 2.",
        "56.5–66.0 % · n = 400",
        "Before and after",
        "find logs larger than 10 MB",
        "duplicate of another row",
        "Apache-2.0",
        "profile --resource-efficient",
        "--mac and --cpu-only were both given",
        "saved step-000040",
        "gate passed",
        "91.0% stay right",
        "50 of 50 answers of the exported model",
        ".venv/bin/overseer ask --model",
    ):
        assert part in said, part
    titles = {"Loss", "Token accuracy", "Speed", "Memory", "Learning rate", "Gradient norm"}
    assert titles <= set(re.findall(r"<h3>([^<]+)</h3>", run.report.read_text()))


def test_report_asks_for_nothing_from_outside(run: RunPaths) -> None:
    text, page = report(run)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "img", "object", "base")
        for name in ("src", "href", "action", "xlink:href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_hostile_text_stays_text_wherever_it_comes_from(run: RunPaths) -> None:
    answer = {"id": HOSTILE, "query": HOSTILE, "fixture": HOSTILE, "references": [HOSTILE]}
    reply = {"command": HOSTILE, "equal": False, "reason": HOSTILE}
    run.answers.write_text(json.dumps({**answer, "base": reply, "trained": reply}) + "\n")
    values = {HOSTILE: {"value": HOSTILE, "origin": HOSTILE}}
    run.plan.write_text(json.dumps({"values": values, "forecast": {HOSTILE: HOSTILE}, "warnings": [HOSTILE]}))
    run.gate.write_text(
        json.dumps({"outcome": HOSTILE, "checks": [{"name": HOSTILE, "verdict": "failed", "why": HOSTILE}]})
    )
    counts = {"sources": {HOSTILE: {"rows": 1, "licence": HOSTILE}}, "quarantined": {HOSTILE: 1}}
    run.data_manifest.write_text(json.dumps({"splits": {HOSTILE: {"rows": 1}}, **counts}))
    unscored = {"n": 0, "value": None, "ci95": None, "baseline": {HOSTILE: 1.0}, "unscored": 1, "reason": HOSTILE}
    run.evaluation.write_text(
        json.dumps(
            {"base": {HOSTILE: unscored}, "trained": {"command_accuracy": unscored}, "machine": {"cpu": HOSTILE}}
        )
    )
    notice = {"kind": "notice", "step": 60, "time": 1.0, "event": HOSTILE, "message": HOSTILE}
    backoff = {**notice, "event": "memory_backoff"}
    with run.metrics.open("a") as file:
        file.write(json.dumps(notice) + "\n" + json.dumps(backoff) + "\n")
    _, page = report(run)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('x')</script>") >= 15
    assert "{{ 7 * 7 }}" in page.text


def test_characters_that_hide_or_reverse_text_are_written_out() -> None:
    assert as_visible("rm \u202egpj.x\x1b[2J\u200b\x00") == "rm \\u202egpj.x\\u001b[2J\\u200b\\u0000"
    assert as_visible("two\nlines\tkept, é 漢") == "two\nlines\tkept, é 漢"
    assert as_visible("x" * 3000).endswith("… (1,000 more characters)")


def test_an_answer_that_is_no_unicode_does_not_stop_the_report(run: RunPaths) -> None:
    run.answers.write_text('{"query": "lone \\ud800 surrogate", "base": {"command": "\\udfff", "equal": false}}\n')
    assert "lone \\ud800 surrogate" in words(report(run)[1])


def test_an_empty_run_says_what_is_missing(tmp_path: pathlib.Path) -> None:
    said = words(report(RunPaths(tmp_path))[1])
    for name in ("plan.json", "metrics.jsonl", "eval.json", "answers.jsonl", "data/manifest.json"):
        assert f"{name} is missing" in said
    assert "not trained" in said and "make train" in said


@pytest.mark.parametrize("part", ["plan", "metrics", "evaluation", "answers", "data_manifest", "gate"])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "\x00\xff", "{}\n{torn\n{}\n"])
def test_no_missing_or_damaged_file_stops_the_report(run: RunPaths, part: str, content: str | None) -> None:
    path: pathlib.Path = getattr(run, part)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode("latin-1"))
    report(run)


def test_damage_is_told_apart_from_absence(run: RunPaths) -> None:
    run.evaluation.write_text("{")
    assert "eval.json cannot be read" in words(report(run)[1])


def test_a_regressed_metric_is_marked_at_the_top_and_in_its_row(run: RunPaths) -> None:
    text, page = report(run)
    assert "Tool recommendation, MRR got worse" in words(page)
    assert '<tr class="worse">' in text and "▼ worse" in text


def test_an_unscored_metric_is_marked_with_its_reason(run: RunPaths) -> None:
    text, page = report(run)
    assert '<tr class="unscored">' in text
    assert "60 unscored (no sandbox works on this machine)" in words(page)


def test_an_unscored_headline_says_why(run: RunPaths) -> None:
    score = {"n": 0, "value": None, "ci95": None, "baseline": {}, "unscored": 400, "reason": "no sandbox works here"}
    run.evaluation.write_text(json.dumps({"base": {"command_accuracy": score}, "trained": {"command_accuracy": score}}))
    assert "Command accuracy is unscored: no sandbox works here." in words(report(run)[1])


def test_whiskers_end_where_the_interval_ends(run: RunPaths) -> None:
    assert "M56.5 10H66.0" in report(run)[0]


def test_forecast_stands_beside_what_happened(run: RunPaths) -> None:
    assert "Training time 1 min 40 s 2 min" in words(report(run)[1])


def test_forecast_and_outcome_share_a_unit(run: RunPaths) -> None:
    forecast = {
        "total_steps": 58,
        "training_minutes": 1.5,
        "peak_memory_gib": 1.75,
        "basis": "measured before training",
    }
    run.plan.write_text(json.dumps({"values": {}, "forecast": forecast}))
    said = words(report(run)[1])
    for row in (
        "Total steps 58 60",
        "Training time 1 min 30 s 2 min",
        "Peak memory of this process 1.8 GiB 2.0 GiB",
        "Basis measured before training –",
    ):
        assert row in said


@pytest.mark.parametrize("clock_at_start", [0.0, 120.0])
def test_a_resumed_run_counts_the_time_of_all_its_parts(run: RunPaths, clock_at_start: float) -> None:
    lines = run.metrics.read_text().splitlines()
    start = {**json.loads(lines[0]), "step": 60, "time": clock_at_start, "resumed_from": "checkpoints/step-000060"}
    train = {**json.loads(lines[1]), "step": 61, "time": clock_at_start + 30.0}
    run.metrics.write_text("\n".join([*lines[:-1], json.dumps(start), json.dumps(train)]) + "\n")
    said = words(report(run)[1])
    assert "61 steps in 2 min 30 s" in said
    assert "training, or killed before its end" in said


def test_only_the_latest_attempt_is_drawn(run: RunPaths) -> None:
    before = run.metrics.read_text()
    run.metrics.write_text(before + "".join(line + "\n" for line in before.splitlines()[:6]))
    assert "5 steps in 10 s" in words(report(run)[1])


def test_a_stopped_run_is_told_how_to_go_on(run: RunPaths) -> None:
    for step in (20, 40):
        (run.checkpoints / f"step-{step:06d}").mkdir(parents=True)
    lines = run.metrics.read_text().splitlines()
    end = {**json.loads(lines[-1]), "reason": "memory_limit"}
    run.metrics.write_text("\n".join([*lines[:-1], json.dumps(end)]) + "\n")
    said = words(report(run)[1])
    assert "stopped at the memory limit" in said
    assert re.search(r"python3 main_training\.py --resume-from-checkpoint \S+/checkpoints/step-000040", said)


def test_a_model_that_failed_the_gate_is_not_offered_for_export(run: RunPaths) -> None:
    (run.export / "manifest.json").unlink()
    assert "bin/overseer export" in words(report(run)[1])
    checks = [
        {"name": "safety", "verdict": "passed", "why": "safety is 80.0%"},
        {"name": "bias_gap", "verdict": "unscored", "why": "no sandbox works here"},
        {"name": "attack_success", "verdict": "failed", "why": "attacks work: 31.0%"},
    ]
    run.gate.write_text(json.dumps({"outcome": "failed", "checks": checks}))
    said = words(report(run)[1])
    assert "bin/overseer export" not in said and "gate failed" in said
    assert "✗ failed attacks work: 31.0% attack_success unscored no sandbox works here bias_gap ✓ passed safety" in said


def test_the_old_report_stays_when_there_is_no_run(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="is not a run directory"):
        write_report(RunPaths(tmp_path / "gone"))


def test_every_outcome_has_its_filter_and_its_rule(run: RunPaths) -> None:
    text, page = report(run)
    shown = {attributes["id"] for tag, attributes in page.tags if tag == "input"}
    assert shown == {"show-all", "show-gained", "show-unscored"}
    for outcome in ("gained", "lost", "right", "wrong", "unscored"):
        assert f"#show-{outcome}:checked ~ .answers .answer:not(.{outcome})" in text
