"""Sources beside the corpus: files of the user's and a tldr cache; and the check against a benchmark."""

from __future__ import annotations

import json
import pathlib

import pytest

from overseer_training.data.build import read_source
from overseer_training.data.overlap import find_overlaps
from overseer_training.data.sources import tldr
from overseer_training.data.sources.pairs import count_pairs, read_pairs
from overseer_training.errors import DataError
from overseer_training.records import Example, Turn

PAGE = """# tar

> Archiving utility.
> More information: <https://example.org>.

- [c]reate an archive and write it to a [f]ile:

`tar cf {{path/to/target.tar}} {{path/to/file1 path/to/file2 ...}}`

- E[x]tract an archive `verbosely`:

`tar {{[-x|--extract]}}vf {{path/to/source.tar[.gz|.bz2]}}`

- List everything:

`tar --list`
"""


def test_json_lines_and_csv_give_the_same_pairs(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"nl": " list files ", "bash": "ls"}\n\n{"nl": "x", "bash": 5}\n{"nl": "y", "bash": "a\\nb"}\n7\n'
    )
    (tmp_path / "a.csv").write_text("\ufeffInstruction,id,Command\nlist files,1,ls\n,2,ls\n")
    for name, left_out in (("a.jsonl", 3), ("a.csv", 1)):
        read = list(read_pairs(tmp_path / name))
        rows = [row for row in read if isinstance(row, Example)]
        assert [(row.query, row.answer, row.source) for row in rows] == [("list files", "ls", name)]
        assert count_pairs(read) == (1, left_out)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": "b"}\n', "has the columns a"),
        ("not json\n", "line 1 is not JSON"),
        ('{"query": "", "command": ""}\n', "no pair"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_source_says_why(tmp_path: pathlib.Path, content: str, problem: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=problem):
        list(read_pairs(path))


def test_a_missing_file_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_source(str(tmp_path / "none.csv")))


def test_pages_become_requests_that_name_every_value(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tldr" / "pages" / "common"
    folder.mkdir(parents=True)
    (folder / "tar.md").write_text(PAGE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tldr.find_cache() == tmp_path / "tldr"
    rows = read_source("tldr")
    assert [(row.query, row.answer) for row in rows if isinstance(row, Example)] == [
        ("create an archive and write it to a file: target.tar file1 file2", "tar cf target.tar file1 file2"),
        ("extract an archive verbosely: source.tar", "tar -xvf source.tar"),
        ("list everything", "tar --list"),
    ]


def test_no_cache_says_how_to_get_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match="tldr --update"):
        read_source("tldr")


def row(query: str, answer: str) -> Example:
    return Example("r", "f", "command", (Turn("user", query), Turn("assistant", answer)), "linux", "corpus")


def test_overlaps_are_found_whatever_the_form_of_the_benchmark(tmp_path: pathlib.Path) -> None:
    long = "please go through all the log files below var and tell me which of them mention timeouts"
    (tmp_path / "one.json").write_text(json.dumps([{"deep": [{"text": "Find the BIG files!"}]}]))
    (tmp_path / "two.csv").write_text(f'id,text\n1,"First, {long} tonight"\n')
    (tmp_path / "skip.bin").write_text("count the lines of notes")
    rows = [row("find the big files", "x"), row(f"{long} or not", "x"), row("count the lines of notes", "ls -l")]
    found = list(find_overlaps(rows, tmp_path))
    assert [(overlap.file, overlap.kind) for overlap in found] == [("one.json", "equal"), ("two.csv", "13 words")]


def test_an_empty_benchmark_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="no texts"):
        list(find_overlaps([], tmp_path))
