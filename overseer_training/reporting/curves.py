"""The curves of a run: which events become which chart.

Takes a `RunRecord`, gives charts in the order they are read: loss, accuracy, speed, memory, learning rate, gradient.
"""

from __future__ import annotations

from overseer_training.reporting.charts import Chart, Line, Points, draw_chart, smooth
from overseer_training.reporting.collect import RunRecord
from overseer_training.reporting.units import as_number, as_percent, as_quantity

MEMORY_EVENTS = ("memory_backoff", "stop", "skipped_step")


def draw_curves(record: RunRecord) -> list[Chart]:
    """Charts for everything that was measured; none for a run without metrics."""
    marks = [
        (float(event["step"]), f"step {event['step']:,}: {event['message']}")
        for event in record.of_kind("notice")
        if event.get("event") in MEMORY_EVENTS
    ]
    resumed = [
        (float(event["step"]), f"resumed after step {event['step']:,}")
        for event in record.of_kind("start")
        if event.get("resumed_from") is not None and event["step"] > 0
    ]
    places = [float(event["step"]) for event in record.events if event.get("kind") in ("train", "validation")]
    steps = (min(places), max(places)) if places else None
    ram_limit = as_number(record.start.get("ram_limit"))
    grad_limit = as_number(record.plan_value("max_grad_norm"))
    charts = [
        draw_chart(
            "Loss",
            "nats per answer token",
            [
                *_raw_and_smooth(_series(record, "train", "loss"), "training"),
                Line("validation", _series(record, "validation", "loss"), "second"),
            ],
            lambda value: f"{value:.3f}",
            lambda value: f"{value:g}",
            steps=steps,
            marks=resumed,
        ),
        draw_chart(
            "Token accuracy",
            "answer tokens predicted right, validation",
            [Line("validation", _series(record, "validation", "token_accuracy"), "second")],
            as_percent,
            lambda value: f"{value * 100:g} %",
            steps=steps,
        ),
        draw_chart(
            "Speed",
            "tokens per second",
            _raw_and_smooth(_series(record, "train", "tokens_per_second"), "tokens/s"),
            as_quantity,
            lambda value: f"{value:,.0f}" if value >= 10 else f"{value:g}",
            steps=steps,
            bounds=(0.0, None),
        ),
        draw_chart(
            "Memory",
            "RAM in use on this machine",
            [Line("RAM", _series(record, "train", "ram_fraction"), "main")],
            as_percent,
            lambda value: f"{value * 100:g} %",
            steps=steps,
            bounds=(0.0, 1.0),
            limit=(ram_limit, f"limit {as_percent(ram_limit, 0)}") if ram_limit is not None else None,
            marks=marks,
        ),
        draw_chart(
            "Device memory",
            "GiB",
            [Line("device", [(x, y / 2**30) for x, y in _series(record, "train", "device_memory_bytes")], "main")],
            lambda value: f"{value:.2f} GiB",
            lambda value: f"{value:g}",
            steps=steps,
            bounds=(0.0, None),
        ),
        draw_chart(
            "Learning rate",
            "per optimizer step",
            [Line("learning rate", _series(record, "train", "learning_rate"), "main")],
            lambda value: f"{value:.3g}",
            lambda value: f"{value:.2g}" if value else "0",
            steps=steps,
            bounds=(0.0, None),
        ),
        draw_chart(
            "Gradient norm",
            "before clipping",
            _raw_and_smooth(_series(record, "train", "grad_norm"), "norm"),
            as_quantity,
            lambda value: f"{value:g}",
            steps=steps,
            bounds=(0.0, None),
            limit=(grad_limit, f"clipped above {grad_limit:g}") if grad_limit is not None else None,
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _series(record: RunRecord, kind: str, field: str) -> Points:
    return [
        (float(event["step"]), value)
        for event in record.of_kind(kind)
        if (value := as_number(event.get(field))) is not None
    ]


def _raw_and_smooth(points: Points, label: str) -> list[Line]:
    if len(points) < 20:
        return [Line(label, points, "main")]
    span = max(5, len(points) // 25)
    return [Line(label, points, "raw"), Line(f"{label}, mean of ~{span} steps", smooth(points, span), "main")]
