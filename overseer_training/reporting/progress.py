"""Progress of a training run in a terminal: one live panel, or plain lines where there is no terminal.

Takes training events (`events.py`) and writes to a rich console or through a function that prints a line. `Pace` keeps
what both need to know: trend and time left. Does not write files.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from overseer_training.reporting.units import as_count, as_duration, as_number, as_percent, as_quantity, as_size

LINE_EVERY_SECONDS = 10.0  # chosen: a log of an hour stays under 400 lines
DRAW_EVERY_SECONDS = 0.1
TREND_STEPS = 20  # the mean of this many steps is compared with the same number before them
FLAT_CHANGE = 0.01  # relative change of the loss below which a trend is called flat; chosen
PANEL_COLUMNS = 96
MEMORY_BAR_COLUMNS = 24
SPARKLINE_COLUMNS = 24

REASONS = {
    "finished": "finished",
    "early_stop": "stopped early, validation no longer improved",
    "time_budget": "stopped, the time budget is used up",
    "interrupted": "interrupted, a checkpoint is saved",
    "memory_limit": "stopped at the memory limit",
}
LASTING_NOTICES = ("memory_backoff", "skipped_step", "early_stop", "stop")  # stay above the panel; the rest passes


class Pace:
    """Where training stands: the latest events of each kind, the trend of the loss, the time left."""

    def __init__(self) -> None:
        self.start: Mapping[str, Any] = {}
        self.train: Mapping[str, Any] = {}
        self.validation: Mapping[str, Any] = {}
        self.notice: Mapping[str, Any] = {}
        self.end: Mapping[str, Any] = {}
        self.losses: list[float] = []
        self._ticks: collections.deque[tuple[float, int]] = collections.deque(maxlen=50)

    def update(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind in ("start", "train", "validation", "notice", "end"):
            setattr(self, kind, event)
        if kind in ("start", "train"):
            self._ticks.append((event["time"], event["step"]))
        if kind == "train" and as_number(event["loss"]) is not None:
            self.losses.append(event["loss"])

    @property
    def total_steps(self) -> int:
        """Of the run, at least 1; fewer than at its start where the machine turned out slower than its time budget allows."""
        return max(1, int(self.train.get("total_steps") or self.start.get("total_steps", 0)))

    @property
    def trend(self) -> Literal["falling", "rising", "flat", "unknown"]:
        """Of the training loss: the mean of the last `TREND_STEPS` steps (fewer at first) against those before."""
        half = min(TREND_STEPS, len(self.losses) // 2)
        if half < 3:
            return "unknown"
        before, now = sum(self.losses[-2 * half : -half]) / half, sum(self.losses[-half:]) / half
        if abs(now - before) <= FLAT_CHANGE * abs(before):
            return "flat"
        return "falling" if now < before else "rising"

    @property
    def seconds_left(self) -> float | None:
        """By the pace of recent steps, and never past the time budget."""
        if len(self._ticks) < 2 or self._ticks[-1][1] <= self._ticks[0][1]:
            return None
        (first_time, first_step), (now, step) = self._ticks[0], self._ticks[-1]
        left: float = max(0, self.total_steps - step) * (now - first_time) / (step - first_step)
        budget = self.start.get("time_budget_seconds")
        return left if budget is None else max(0.0, min(left, budget - now))


class LineProgress:
    """Listener that prints lines: training at most every `LINE_EVERY_SECONDS`, everything else at once."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._pace = Pace()
        self._printed_at: float | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "start":
            self._pace, self._printed_at = Pace(), None
        self._pace.update(event)
        if event["kind"] == "train":
            if self._printed_at is not None and event["time"] - self._printed_at < LINE_EVERY_SECONDS:
                return
            self._printed_at = event["time"]
        if line := describe(event, self._pace):
            self._print_line(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to restore; here so that both displays are used in the same way."""


class LiveProgress:
    """Listener that redraws one panel on a real terminal. Use it with `with`: leaving restores the cursor."""

    def __init__(self, console: Console) -> None:
        self._pace = Pace()
        self._drawn_at = float("-inf")
        self._live = Live(console=console, auto_refresh=False, transient=False)  # no thread beside the training loop

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "start":
            self._pace = Pace()
        self._pace.update(event)
        if event["kind"] == "notice" and event["event"] in LASTING_NOTICES:
            self._live.console.print(Text(describe(event, self._pace), style="yellow"))
        now = time.monotonic()
        if event["kind"] != "train" or now - self._drawn_at >= DRAW_EVERY_SECONDS:
            self._drawn_at = now
            self._live.update(draw_panel(self._pace, self._live.console.width), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def describe(event: Mapping[str, Any], pace: Pace) -> str:
    """One line about `event`; empty for kinds that are not known here."""
    at = f"step {as_count(event['step'])}"
    if event["kind"] == "start":
        whence = f", resumed from {event['resumed_from']}" if event.get("resumed_from") else ""
        limit = f", RAM limit {as_percent(event['ram_limit'], 0)}" if event.get("ram_limit") else ""
        return f"{as_count(event['total_steps'])} steps over {as_count(event['examples'])} examples{limit}{whence}"
    if event["kind"] == "train":
        total = pace.total_steps
        parts = [
            f"{at}/{as_count(total)} ({as_percent(event['step'] / total, 0)})",
            f"loss {event['loss']:.3f}" + (f" {pace.trend}" if pace.trend != "unknown" else ""),
            f"{as_quantity(event['tokens_per_second'])} tokens/s",
            f"RAM {as_percent(event['ram_fraction'], 0)}",
        ]
        return "  ".join([*parts, f"{as_duration(pace.seconds_left)} left"] if pace.seconds_left is not None else parts)
    if event["kind"] == "validation":
        accuracy, tokens = as_percent(event["token_accuracy"]), as_count(event["n_tokens"])
        return f"{at}  validation loss {event['loss']:.3f}, token accuracy {accuracy} (n = {tokens} tokens)"
    if event["kind"] == "notice":
        return f"{at}  {event['event'].replace('_', ' ')}: {event['message']}"
    if event["kind"] == "end":
        return (
            f"{at}  {REASONS.get(event['reason'], event['reason'])} after {as_duration(event['time'])}, {_best(event)}"
        )
    return ""


def draw_panel(pace: Pace, columns: int) -> Panel:
    """The live display; fits 60 columns and more."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    rows.add_row("loss", _loss_text(pace))
    if pace.validation:
        value = pace.validation
        accuracy = f"{value['loss']:.3f} · {as_percent(value['token_accuracy'])} of tokens right"
        rows.add_row("validation", Text(accuracy).append(f"  at step {as_count(value['step'])}", style="dim"))
    if pace.train:
        speed = f"{as_quantity(pace.train['tokens_per_second'])} tokens/s"
        details = f"  {as_quantity(pace.train['examples_per_second'])} examples/s"
        rows.add_row("speed", Text(speed).append(details, style="dim"))
        rows.add_row("memory", _memory_text(pace))
        if pace.train.get("device_memory_bytes") is not None:
            rows.add_row("device", as_size(pace.train["device_memory_bytes"]))
    if pace.notice:
        rows.add_row("notice", Text(f"{pace.notice['message']}  ").append(f"step {pace.notice['step']:,}", style="dim"))
    content = Group(_progress_row(pace), Text(), rows)
    return Panel(content, title=_title(pace), title_align="left", width=min(columns, PANEL_COLUMNS), border_style="dim")


def _title(pace: Pace) -> Text:
    if not pace.end:
        return Text("training", style="bold")
    reason = pace.end["reason"]
    colour = {"finished": "green", "early_stop": "green", "memory_limit": "red"}.get(reason, "yellow")
    return Text(REASONS.get(reason, reason), style=f"bold {colour}")


def _progress_row(pace: Pace) -> Table:
    step = max(event.get("step", 0) for event in (pace.start, pace.train, pace.end))
    total = pace.total_steps
    row = Table.grid(padding=(0, 2), expand=True)
    for ratio in (None, 1, None):
        row.add_column(ratio=ratio, no_wrap=True)
    time_text = f"{as_duration(pace.seconds_left)} left" if pace.seconds_left is not None else "measuring"
    if pace.end:
        time_text = f"took {as_duration(pace.end['time'])}"
    bar = ProgressBar(total=total, completed=step, complete_style="cyan", finished_style="green")
    row.add_row(Text(f"step {step:,} of {total:,}", style="bold"), bar, time_text)
    return row


def _loss_text(pace: Pace) -> Text:
    if not pace.train:
        return Text("the first step is running", style="dim")
    arrow, style = {"falling": ("↘ falling", "green"), "rising": ("↗ rising", "yellow"), "flat": ("→ flat", "dim")}.get(
        pace.trend, ("", "")
    )
    text = Text(f"{pace.train['loss']:.3f} ", style="bold").append(
        f"{arrow}  " if arrow else " ", style=f"not bold {style}"
    )
    return text.append(sparkline(pace.losses), style="not bold cyan")


def sparkline(values: list[float], columns: int = SPARKLINE_COLUMNS) -> str:
    """All `values` in at most `columns` block characters, each the mean of its share, lowest to highest."""
    if not values:
        return ""
    columns = min(columns, len(values))
    edges = [index * len(values) // columns for index in range(columns + 1)]
    shown = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, int((value - low) / span * 8))] for value in shown)


def _memory_text(pace: Pace) -> Text:
    """The whole machine's use as a bar; the mark is the limit at which training stops."""
    used, limit = pace.train["ram_fraction"], pace.start.get("ram_limit") or 1.0
    colour = "red" if used >= 0.95 * limit else "yellow" if used >= 0.8 * limit else "green"
    filled, mark = round(used * MEMORY_BAR_COLUMNS), min(MEMORY_BAR_COLUMNS - 1, round(limit * MEMORY_BAR_COLUMNS))
    text = Text()
    for column in range(MEMORY_BAR_COLUMNS):
        if column == mark:
            text.append("┃", style="bold")
        else:
            text.append("━", style=colour if column < filled else "bright_black")
    text.append(f"  {as_percent(used, 0)}", style=f"bold {colour}").append(f", limit {as_percent(limit, 0)}")
    return text.append(f"  this run {as_size(pace.train['process_rss_bytes'])}", style="dim")


def _best(end: Mapping[str, Any]) -> str:
    peak = f"peak RAM {as_percent(end.get('peak_ram_fraction'), 0)}"
    best = as_number(end.get("best_validation_loss"))  # infinite before the first validation
    if best is None:
        return f"no validation, {peak}"
    return f"best validation loss {best:.3f} at step {as_count(end['best_step'])}, {peak}"
