"""What a person sees while a run works: plain lines in a pipe, a live panel on a real pseudo-terminal."""

from __future__ import annotations

import io
import os
import pathlib
import pty
import re
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from rich.console import Console

from overseer_training.reporting.progress import Pace, draw_panel, sparkline
from overseer_training.reporting.terminal import Terminal, as_plain_ascii

ROOT = pathlib.Path(__file__).parents[2]


def plain_output(events: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    terminal = Terminal(stages=2, stream=stream)
    with terminal.stage("training") as stage, terminal.training() as display:
        for event in events:
            display(event)
        stage.result = "60 steps"
    terminal.skip_stage("export", "no --export")
    return stream.getvalue()


def test_plain_output_is_ascii_lines_without_control_codes(events: list[dict[str, Any]]) -> None:
    hostile = {"kind": "notice", "step": 1, "time": 1.0, "event": "info", "message": "4 → 2\x1b[2J\rgone\u202e"}
    output = plain_output([*events[:3], hostile, *events[3:]])
    assert output.isascii()
    assert all(line.isprintable() for line in output.split("\n"))
    assert "4 -> 2" in output


def test_plain_output_says_every_stage_and_how_it_ended(events: list[dict[str, Any]]) -> None:
    output = plain_output(events)
    assert re.search(r"^\[1/2\] training \.\.\.$", output, re.MULTILINE)
    assert re.search(r"^\[1/2\] training \.\.\.  done in 0\.\d s, 60 steps$", output, re.MULTILINE)
    assert output.endswith("[2/2] export ...  skipped: no --export\n")


def test_plain_training_lines_come_at_most_every_ten_seconds(events: list[dict[str, Any]]) -> None:
    lines = [line for line in plain_output(events).splitlines() if "tokens/s" in line]
    steps = [int(line.split()[1].split("/")[0]) for line in lines]
    assert steps == [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56]  # two seconds a step


def test_plain_output_keeps_every_validation_and_notice(events: list[dict[str, Any]]) -> None:
    output = plain_output(events)
    assert output.count("validation loss 1.250, token accuracy 74.2 % (n = 4,800 tokens)") == 3
    assert output.count("checkpoint: saved step-") == 3
    assert "finished after 2 min, best validation loss 1.250 at step 40, peak RAM 61 %" in output


@pytest.mark.parametrize(("error", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_stage_that_raises_says_so_and_does_not_hide_the_error(error: type[BaseException], word: str) -> None:
    stream = io.StringIO()
    with pytest.raises(error), Terminal(stages=1, stream=stream).stage("data"):
        raise error
    assert f"[1/1] data ...  {word} after" in stream.getvalue()


def test_time_left_follows_the_pace_and_stops_at_the_budget(events: list[dict[str, Any]]) -> None:
    pace = Pace()
    for event in events[:11]:
        pace.update(event)
    assert pace.seconds_left == pytest.approx(100.0)  # 50 steps of two seconds
    pace.start = {**pace.start, "time_budget_seconds": 50.0}
    assert pace.seconds_left == pytest.approx(30.0)


def test_trend_tells_falling_from_flat_and_rising() -> None:
    def trend(losses: list[float]) -> str:
        pace = Pace()
        pace.losses = losses
        return pace.trend

    assert trend([3.0] * 20 + [2.0] * 20) == "falling"
    assert trend([2.0] * 20 + [2.01] * 20) == "flat"
    assert trend([2.0] * 20 + [3.0] * 20) == "rising"
    assert trend([2.0, 1.0]) == "unknown"


def test_a_loss_that_is_not_a_number_stops_no_display(events: list[dict[str, Any]]) -> None:
    broken = {**events[1], "loss": float("nan"), "grad_norm": float("nan")}
    output = plain_output([events[0], broken, {**events[-1], "best_validation_loss": float("inf")}])
    assert "loss nan" in output and "no validation" in output
    pace = Pace()
    for event in (events[0], broken):
        pace.update(event)
    Console(file=io.StringIO()).print(draw_panel(pace, 80))
    pace.update(events[2])
    Console(file=io.StringIO()).print(draw_panel(pace, 80))


def test_sparkline_shows_the_whole_run_in_few_columns() -> None:
    assert sparkline([float(value) for value in range(80)], columns=8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0]) == "▁"


def test_plain_ascii_spells_typographic_signs() -> None:
    assert as_plain_ascii("step 3 … 4 → 2 · 5 × 6 – done") == "step 3 ... 4 -> 2 - 5 x 6 - done"
    assert as_plain_ascii("漢") == "?"


def run_on_a_terminal(tmp_path: pathlib.Path, body: str, **environment: str) -> str:
    """Runs `body` with a pseudo-terminal as its output and returns everything that it wrote."""
    script = tmp_path / "show.py"
    script.write_text(textwrap.dedent(body))
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "xterm-256color"}
    sized = {"COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=theirs, stderr=theirs, env=env | sized | environment
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux reports a closed terminal as an input error
            break
        if not read:
            break
        output += read
    os.close(ours)
    assert process.wait(timeout=60) == 0, output.decode()
    return output.decode()


SHOW = """
    from overseer_training.reporting.terminal import Terminal
    terminal = Terminal(stages=1)
    with terminal.stage("training"), terminal.training() as display:
        display({"kind": "start", "step": 0, "time": 0.0, "total_steps": 10, "examples": 40, "ram_limit": 0.75,
                 "gpu_limit": None, "time_budget_seconds": None, "resumed_from": None})
        display({"kind": "train", "step": 5, "time": 10.0, "loss": 1.5, "learning_rate": 5e-5, "grad_norm": 1.0,
                 "answer_tokens": 9, "tokens": 99, "tokens_per_second": 292.0, "examples_per_second": 4.4,
                 "ram_fraction": 0.52, "process_rss_bytes": 2**31, "device_memory_bytes": 2**30, "micro_batch_size": 4})
        display({"kind": "notice", "step": 5, "time": 10.0, "event": "memory_backoff", "message": "micro-batch 4 to 2"})
        display({"kind": "end", "step": 10, "time": 20.0, "reason": "finished", "best_step": 10,
                 "best_validation_loss": None, "peak_rss_bytes": 1, "peak_ram_fraction": 0.5, "tokens": 1,
                 "examples": 1})
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


def test_a_terminal_gets_a_panel_and_its_cursor_back(tmp_path: pathlib.Path) -> None:
    output = run_on_a_terminal(tmp_path, SHOW)
    for text in ("step 5 of 10", "292 tokens/s", "52 %", "limit 75 %", "this run 2.0 GiB", "1.0 GiB", "10 s left"):
        assert text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    assert COLOUR.search(output)
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # the cursor is shown again
    assert "step 5  memory backoff: micro-batch 4 to 2" in output


def test_no_color_is_respected_on_a_terminal(tmp_path: pathlib.Path) -> None:
    assert not COLOUR.search(run_on_a_terminal(tmp_path, SHOW, NO_COLOR="1"))


def test_a_dumb_terminal_gets_plain_lines(tmp_path: pathlib.Path) -> None:
    output = run_on_a_terminal(tmp_path, SHOW, TERM="dumb")
    assert "\x1b" not in output
    assert "step 5/10 (50 %)" in output


def test_an_error_during_training_restores_the_terminal(tmp_path: pathlib.Path) -> None:
    body = """
        from overseer_training.reporting.terminal import Terminal
        try:
            with Terminal().training() as display:
                raise RuntimeError("boom")
        except RuntimeError:
            print("after")
    """
    output = run_on_a_terminal(tmp_path, body)
    assert "\x1b[?25h" in output and output.rstrip().endswith("after")


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error")])
def test_work_goes_on_when_nobody_reads_the_terminal_any_more(error: OSError, events: list[dict[str, Any]]) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

    terminal = Terminal(1, Closed())
    with terminal.stage("training") as stage, terminal.training() as display:
        for event in events:
            display(event)
        stage.result = "done"
    terminal.say("bye")
