"""The metrics file survives kills, resumptions and full disks."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from overseer_training.errors import DataError, TrainingError
from overseer_training.reporting.events import MetricsFile, broadcast, read_metrics


def steps_in(path: pathlib.Path) -> list[int]:
    return [event["step"] for event in read_metrics(path) if event["kind"] == "train"]


def write_run(path: pathlib.Path, events: list[dict[str, Any]]) -> MetricsFile:
    metrics = MetricsFile(path)
    for event in events:
        metrics(event)
    return metrics


def test_every_event_is_readable_as_soon_as_it_is_written(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    metrics = MetricsFile(path)
    for number, event in enumerate(events, start=1):
        metrics(event)
        assert len(read_metrics(path)) == number
    assert read_metrics(path) == events


@pytest.mark.parametrize("start_step", [40, 0])
def test_resuming_drops_the_steps_that_are_about_to_happen_again(
    tmp_path: pathlib.Path, events: list[dict[str, Any]], start_step: int
) -> None:
    path = tmp_path / "metrics.jsonl"
    write_run(path, events)
    MetricsFile(path)({**events[0], "step": start_step, "resumed_from": "runs/x/checkpoints/step-000040"})
    assert steps_in(path) == list(range(1, 41))
    assert read_metrics(path)[-1]["resumed_from"] == "runs/x/checkpoints/step-000040"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("torn", ['{"kind": "train", "st', '{"kind": "notice", "step": 9}'])
def test_resuming_after_a_kill_in_the_middle_of_a_line_leaves_whole_lines(
    tmp_path: pathlib.Path, events: list[dict[str, Any]], torn: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    write_run(path, events[:10])
    with path.open("a") as file:
        file.write(torn)
    metrics = MetricsFile(path)
    metrics({**events[0], "step": 9, "resumed_from": pathlib.Path("checkpoints/step-000009")})
    metrics(events[10])
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert steps_in(path) == [*range(1, 10), 10]


def test_a_fresh_start_in_a_used_directory_loses_nothing(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    path = tmp_path / "metrics.jsonl"
    write_run(path, events)
    write_run(path, events)
    assert read_metrics(path) == [*events, *events]


def test_reader_leaves_out_a_torn_last_line_even_inside_a_character(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = json.dumps({"kind": "notice", "message": "4 → 2"}, ensure_ascii=False).encode()
    path.write_bytes(whole + b"\n" + whole[: whole.index("→".encode()) + 1])
    assert read_metrics(path) == [{"kind": "notice", "message": "4 → 2"}]


def test_reader_refuses_damage_that_is_not_a_torn_end(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2"):
        read_metrics(path)


def test_no_file_means_no_events(tmp_path: pathlib.Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_loss_that_is_not_a_number_is_written_as_null(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path)({**events[1], "loss": float("nan"), "grad_norm": float("inf")})
    assert "NaN" not in path.read_text()
    assert read_metrics(path)[0]["loss"] is None


def test_an_unwritable_file_names_itself_and_what_to_do(tmp_path: pathlib.Path, events: list[dict[str, Any]]) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(TrainingError, match=r"metrics\.jsonl.*resume"):
        MetricsFile(tmp_path / "metrics.jsonl")(events[1])


def test_broadcast_reaches_every_listener_in_order() -> None:
    heard: list[tuple[str, int]] = []
    listener = broadcast(
        lambda event: heard.append(("a", event["step"])), lambda event: heard.append(("b", event["step"]))
    )
    listener({"kind": "info", "step": 3, "time": 0.0})
    assert heard == [("a", 3), ("b", 3)]
