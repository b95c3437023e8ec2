"""Tables and logs of strangers become pairs and series, whatever their columns are called."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Callable

import pytest

from overseer_training.data.sources.kaggle import command_pairs, line_counts, series, times
from overseer_training.data.sources.kaggle.command_pairs import find_columns
from overseer_training.data.sources.kaggle.reviewed import REVIEWED, Dataset, read_datasets
from overseer_training.data.sources.kaggle.tables import read_table
from overseer_training.data.sources.pairs import read_pairs
from overseer_training.errors import ConfigError, DataError
from overseer_training.records import Example

COMMANDS = Dataset("a/b", "commands", "pairs")
METRICS = Dataset("a/b", "metrics", "series")
LOGS = Dataset("a/b", "logs", "line_counts")
ROWS = [(f"Show the first {n} lines of notes.txt", f"head -n {n} notes.txt") for n in range(1, 20)]


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


def as_csv(separator: str, *names: str) -> str:
    lines = [separator.join(("no", *names, "level"))]
    return "\n".join(
        lines + [f"{n}{separator}{query}{separator}{command}{separator}easy" for n, (query, command) in enumerate(ROWS)]
    )


def as_json(document: object) -> str:
    return json.dumps(document)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.csv", as_csv(",", "Description", "Linux")),
        ("a.csv", as_csv(";", "what", "how")),
        ("a.tsv", as_csv("\t", "", "")),
        ("a.txt", as_csv("|", "command", "description")),  # the names lie; the contents do not
        ("a.json", as_json([{"u": q, "v": c} for q, c in ROWS])),
        ("a.json", as_json({str(n): {"invocation": q, "cmd": c} for n, (q, c) in enumerate(ROWS)})),
        ("a.json", as_json({"version": 1, "data": [{"u": q, "v": c} for q, c in ROWS]})),
        ("a.json", "\n".join(as_json({"u": q, "v": c}) for q, c in ROWS)),
        ("sub/a.jsonl", "\n".join(as_json({"u": q, "v": c}) for q, c in ROWS)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_pairs_are_found_in_every_form(source: pathlib.Path, file: str, content: str, encoding: str) -> None:
    path = source / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding)
    counts, notes = command_pairs.convert(source, source.parent, COMMANDS)
    rows = [row for row in read_pairs(source.parent / "pairs.jsonl") if isinstance(row, Example)]
    assert [(row.query, row.answer) for row in rows] == ROWS
    assert counts["pairs"] == len(ROWS) and file in notes[0]


def test_a_lower_case_request_is_no_command() -> None:
    rows = [
        {"x": f"find all files named {n}.txt in the home directory", "y": f"find ~ -name {n}.txt"} for n in range(9)
    ]
    assert (find_columns(rows).request, find_columns(rows).command) == ("x", "y")


def test_a_category_is_no_request() -> None:
    rows = [
        {"c": f"ls -{n}", "kind": "working with files", "text": f"show the files in form {n}"} for n in "abcdefghijkl"
    ]
    assert find_columns(rows).request == "text"


@pytest.mark.parametrize(
    "rows", [[], [{"a": "1", "b": "2"}], [{"command": "the cat", "query": "a dog"}], [{"c": "ls -l"}]]
)
def test_columns_that_are_not_clear_are_not_guessed(rows: list[dict[str, str]]) -> None:
    with pytest.raises(DataError, match=r"looks like (commands|requests); name them with"):
        find_columns(rows)


def test_what_nobody_can_run_or_read_is_counted_and_left_out(source: pathlib.Path) -> None:
    bad = [
        "ls [OPTION]... [FILE]...",
        "cp <source> <target>",
        "grep [options] pattern",
        "cat caf\udce9.txt",
        "ls \\\n  -l",
    ]
    good = [
        "ls [a-c]*",
        "grep -c '[0-9]' a <b",
        "go test ./...",
        "echo ${c[RANDOM%2]}",
        *(f"cat {n}.txt" for n in range(30)),
    ]
    with (source / "a.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(
            [("text", "command"), *((f"please do this thing {n} now", c) for n, c in enumerate(bad + good))]
        )
    counts, _ = command_pairs.convert(source, source.parent, COMMANDS)
    rows = read_pairs(source.parent / "pairs.jsonl")
    assert [row.answer for row in rows if isinstance(row, Example)] == good
    assert counts == {
        "tables": 1, "rows": 39, "synopses": 3, "unreadable_characters": 1, "pairs": 34, "no_pair": 1,
    }  # fmt: skip


def test_columns_that_the_user_names_are_taken(source: pathlib.Path) -> None:
    (source / "a.csv").write_text("one,two,three\nwhoami,print my name,show the user\n")
    dataset = Dataset("a/b", "commands", "pairs", request_column="three", command_column="one")
    command_pairs.convert(source, source.parent, dataset)
    first = next(read_pairs(source.parent / "pairs.jsonl"))
    assert isinstance(first, Example) and first.query == "show the user"
    with pytest.raises(DataError, match="has the columns 'one', 'two', 'three', and no 'four'"):
        command_pairs.convert(
            source, source.parent, Dataset("a/b", "commands", "pairs", request_column="four", command_column="one")
        )


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"{", b'"a\n' * 10, b"[1, 2", b"[" * 100_000])
@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
@pytest.mark.parametrize("convert", [command_pairs.convert, series.convert, line_counts.convert])
def test_garbage_is_one_line(source: pathlib.Path, content: bytes, suffix: str, convert: Callable[..., object]) -> None:
    (source / f"a.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match="a/b has no") as error:
        convert(source, source.parent, COMMANDS)
    assert "\n" not in str(error.value)


def read_series(source: pathlib.Path, file: str) -> list[dict[str, str]]:
    with (source.parent / "series" / file).open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_table_of_metrics_is_sorted_and_has_one_form_of_time(source: pathlib.Path) -> None:
    lines = [f"{1376314846 + 300 * n};\t{n}.5;\t{'' if n == 3 else n};\tvm{n}" for n in (*range(19, -1, -1), 5)]
    (source / "1.csv").write_text(
        "Timestamp [ms];\tCPU usage [%];\tMemory usage [KB];\tname\n" + "\n".join([*lines, "never;\t1;\t1;\tx"])
    )
    counts, notes = series.convert(source, source.parent, METRICS)
    rows = read_series(source, "1.csv.csv")
    assert list(rows[0]) == ["time", "cpu_usage_percent", "memory_usage_kb"]
    assert [int(row["time"]) for row in rows] == [1376314846 + 300 * n for n in range(20)]
    assert [row["memory_usage_kb"] for row in rows[2:5]] == ["2", "", "4"]
    assert (counts["points"], counts["rows_without_time"]) == (20, 1)
    assert "times from 'Timestamp [ms]', 2 metrics" in notes[0]


def test_of_two_columns_of_dates_the_one_that_is_called_time_counts(source: pathlib.Path) -> None:
    lines = [f"2020-01-01,2024-01-01 00:{n:02}:00,{n},2021-01-01" for n in range(20)]
    (source / "a.csv").write_text("installed,timestamp,load,removed\n" + "\n".join(lines))
    _, notes = series.convert(source, source.parent, METRICS)
    assert "times from 'timestamp', 1 metrics, 20 points" in notes[0]


def test_a_table_without_times_needs_a_step(source: pathlib.Path) -> None:
    (source / "machine.txt").write_text("".join(f"0.{n},0.{n + 1}\n" for n in range(20)))
    with pytest.raises(DataError, match="no column of times; give 'step_seconds'"):
        series.convert(source, source.parent, METRICS)
    series.convert(source, source.parent, Dataset("a/b", "metrics", "series", step_seconds=60))
    rows = read_series(source, "machine.txt.csv")
    assert len(rows) == 20 and rows[2] == {"time": "120", "column_1": "0.2", "column_2": "0.3"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-02-14 14:30:00", 1392388200.0),
        ("2014-02-14T14:30:00+01:00", 1392384600.0),
        ("1392388200", 1392388200.0),
        ("1392388200000", 1392388200.0),
        ("02/14/2014 14:30", 1392388200.0),
        ("14/02/2014 14:30:00", 1392388200.0),
        ("14.02.2014 14:30", 1392388200.0),
        ("03/04/2014 14:30", None),  # of March or of April?
        ("17", None),
        ("nan", None),
        ("yesterday", None),
    ],
)
def test_times_are_read_and_never_guessed(text: str, seconds: float | None) -> None:
    parser = times.find_parser([text])
    assert (parser(text) if parser else None) == seconds


ACCESS = '1.2.3.4 - - [22/Jan/2019:{hour:02}:{minute:02}:14 +0330] "GET /a HTTP/1.1" {status} 30577 "-" "fail error"\n'


def test_web_server_logs_become_lines_and_errors_in_each_five_minutes(source: pathlib.Path) -> None:
    text = [ACCESS.format(hour=n // 6 + 10, minute=n % 6 * 10, status=503 if n == 4 else 404) for n in range(24)]
    (source / "access.log").write_text("".join(text) + "no time here\n")
    (source / "README.md").write_text("about these logs\n")
    counts, notes = line_counts.convert(source, source.parent, LOGS)
    rows = read_series(source, "access.log.csv")
    assert counts == {"logs": 1, "lines": 24, "errors": 1, "lines_without_time": 1, "points": 47}
    assert [row["lines"] for row in rows[:4]] == ["1", "0", "1", "0"] and rows[8]["errors"] == "1"
    assert int(rows[0]["time"]) == 1548138600  # 10:00 in Tehran
    assert any(note.startswith("README.md: left out, 0 of 1 lines have a time") for note in notes)


@pytest.mark.parametrize(
    "line",
    [
        "[Sun Dec {day:02} {hour:02}:47:44 2005] [error] mod_jk child workerEnv in error state 6",
        "Dec {day:2} {hour:02}:16:01 combo sshd[19939]: authentication failure; rhost=1.2.3.4",
        "2005-12-{day:02} {hour:02}:30:30,123 ERROR disk fault",
    ],
)
def test_other_logs_are_read_too(source: pathlib.Path, line: str) -> None:
    (source / "x").write_text("\n".join(line.format(day=4, hour=hour) for hour in range(4)))
    counts, _ = line_counts.convert(source, source.parent, LOGS)
    assert (counts["lines"], counts["errors"], counts["points"]) == (4, 4, 37)


def test_syslog_goes_on_in_the_next_year(source: pathlib.Path) -> None:
    (source / "x").write_text("Dec 31 23:00:00 a b\nJan  1 01:00:00 a b\n")
    counts, _ = line_counts.convert(source, source.parent, LOGS)
    assert counts["points"] == 25


def test_a_log_with_a_wrong_clock_does_not_fill_the_disk(source: pathlib.Path) -> None:
    (source / "x").write_text("1970-01-01 00:00:00 a\n2024-01-01 00:00:00 b\n")
    with pytest.raises(DataError, match="steps apart"):
        line_counts.convert(source, source.parent, LOGS)


def test_the_list_that_ships_is_valid_and_names_each_kind_that_was_reviewed() -> None:
    datasets = read_datasets(REVIEWED)
    assert {dataset.kind for dataset in datasets} == {"commands", "metrics", "logs"}
    assert all(dataset.licence is None for dataset in datasets)


def test_every_problem_of_a_list_comes_in_one_message() -> None:
    entries = [
        {"slug": "../etc", "kind": "commands"},
        {"slug": "a/b", "kind": "films", "colour": 1},
        {"slug": "c/d", "kind": "logs", "request_column": "x"},
        {"slug": "c/d", "kind": "metrics", "step_seconds": 0},
        "e/f",
    ]
    with pytest.raises(ConfigError) as error:
        read_datasets(entries)  # type: ignore[arg-type]
    assert len(error.value.problems) == 7


def test_a_table_with_ragged_rows_keeps_what_is_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text('a,a,\n1,2,3,4\n5,6\n\n"x, y",7,8\n')
    assert [list(row.values()) for row in read_table(tmp_path / "a.csv")] == [
        ["1", "2", "3"],
        ["5", "6"],
        ["x, y", "7", "8"],
    ]
