"""Rows from tables of options: plain instructions become lessons, the rest is left out; rows are kept and read again."""

from __future__ import annotations

import pathlib

import pytest

from overseer_training.data.build import read_source
from overseer_training.data.sources.help_rows import Row, kept_rows, lessons, request_for, write_rows
from overseer_training.data.sources.help_text import Help, Operand, Option
from overseer_training.errors import DataError


def taught(
    text: str, flags: str = "-x --long", value: str = "", choices: tuple[str, ...] = (), operand: Operand = "file"
) -> list[tuple[str, str]]:
    table = Help(operand, (Option(tuple(flags.split()), value, choices, text),))
    return [(lesson.option, lesson.what) for lesson in lessons(table)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("print the byte counts", "print the byte counts"),
        ("Prints all names. More text.", "print all names"),
        ("Suppresses empty lines; see below", "suppress empty lines"),
        ("do not list implied . and ..", "do not list implied . and .."),
        ("print sizes in human readable format (e.g., 1K 234M 2G)", "print sizes in human readable format"),
        ("print offsets as UTF-8, which is the default", "print offsets as UTF-8"),
        ("list the names and exit", "list the names"),
    ],
)
def test_a_plain_instruction_is_a_lesson(text: str, what: str) -> None:
    assert taught(text) == [("-x", what)]


@pytest.mark.parametrize(
    "text",
    [
        "display this help and exit",
        "natural sort of numbers within text",
        "like -h, but use powers of 1000",
        "with -l, print the author of each file",
        "print it",
        "same as --all",
        "ignored for compatibility with other versions",
        "print the size of FILE in bytes",
        "display $ at end of each line",
        "do short format output",
        "list of all known names",
        "print the lines that stand in a [list]",
        "print " + "very " * 20 + "much",
    ],
)
def test_what_is_no_plain_instruction_teaches_nothing(text: str) -> None:
    assert taught(text) == []


def test_a_value_is_taken_where_it_is_plain_and_said() -> None:
    [(option, what)] = taught("print the first NUM lines", "-n --lines", "NUM")
    number = option.removeprefix("-n ")
    assert number.isdigit() and what == f"print the first {number} lines"
    assert taught("print the first <N> lines", "--lines", "N")[0][0].startswith("--lines=")
    assert taught("write result to FILE", "-o", "FILE") == [("-o result.txt", "write result to result.txt")]
    assert taught("sort by KEY first", "--sort", "KEY", ("name", "size", "time")) == [
        ("--sort=name", "sort by name first"),
        ("--sort=size", "sort by size first"),
    ]
    assert taught("print many lines of it", "-n", "NUM") == []
    assert taught("use PATTERN to search names", "-e", "PATTERN") == []
    assert taught("read the patterns from FILE", "-f", "FILE") == []
    assert taught("display the time of FILE", "-r", "FILE", operand="none") == [
        ("-r words.txt", "display the time of words.txt")
    ]


def test_a_value_that_is_glued_to_its_option_is_seen() -> None:
    assert taught("search dir for macro files", "-Mdir") == []
    assert taught("dump all built in strings", "-dumpspecs") == [("-dumpspecs", "dump all built in strings")]


def test_the_same_instruction_comes_once() -> None:
    options = tuple(Option((flag,), "", (), "print all names") for flag in ("-a", "-b"))
    assert [lesson.option for lesson in lessons(Help("file", options))] == ["-a"]


def test_a_request_names_program_file_and_what_is_asked() -> None:
    for what in ("print the byte counts", "print all names", "list the owners", "show more lines", "skip empty lines"):
        request = request_for("wc", "notes.txt", what)
        assert "wc" in request and "notes.txt" in request and what in request
        assert len(request) <= len(f"run wc on notes.txt and {what}")
    negatives = [request_for(program, "", "do not list names") for program in ("ls", "dir", "vdir", "du", "df", "wc")]
    assert not any(request.startswith("use") for request in negatives)


def test_rows_are_kept_and_read_as_a_source(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSEER_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="overseer data programs"):
        list(read_source("help"))
    write_rows([Row("wc", "use wc to print the byte counts: a.txt", "wc -c a.txt")])
    [row] = read_source("help")
    assert (row.query, row.answer, row.source) == ("use wc to print the byte counts: a.txt", "wc -c a.txt", "help")  # type: ignore[union-attr]
    kept_rows().write_text('{"program": "wc"}\n')
    with pytest.raises(DataError, match=r"help\.jsonl cannot be read"):
        list(read_source("help"))
