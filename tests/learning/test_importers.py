"""Interactions from shell histories and from the table of another assistant."""

from __future__ import annotations

import json
import pathlib
import sqlite3

import pytest

from overseer_training.data.sources.history import History
from overseer_training.errors import DataError, UsageError
from overseer_training.learning.importers import import_history, import_table
from overseer_training.learning.store import Store

ROWS = [
    (
        1,
        "2026-03-01 10:00:00",
        "list hidden files",
        "```bash\nls -a\n```",
        "good",
        json.dumps({"directory": "/srv"}),
        1,
    ),
    (2, 1772359200, "show disk space", "df -h", None, None, 1),
    (3, "2026-03-01T12:00:00+01:00", "count lines", "wc -w notes", "negative", "not json", 0),
    (4, "2026-03-02", "", "ls", None, None, 1),
    (5, "2026-03-03", "log in", "mysql -u root -phunter2secrets9", None, None, None),
    (6, "2026-03-03", "explain", "First do this.\nThen that.", "1", None, None),
]


@pytest.fixture
def table(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "assistant #1.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create table user_interactions (id integer primary key, timestamp, user_input, ai_response, user_feedback, context, success)"
        )
        connection.executemany("insert into user_interactions values (?, ?, ?, ?, ?, ?, ?)", ROWS)
    connection.close()
    return path


def test_a_table_is_read_once(store: Store, table: pathlib.Path) -> None:
    before = table.read_bytes()
    assert import_table(store, table) == 5
    assert import_table(store, table) == 0
    assert table.read_bytes() == before
    found = {i.request: i for i in store.list()}
    liked = found["list hidden files"]
    assert (liked.command, liked.exit_code, liked.feedback, liked.directory, liked.time) == (
        "ls -a",
        0,
        1,
        "/srv",
        1772359200.0,
    )
    assert found["show disk space"].time == 1772359200.0
    assert (found["count lines"].exit_code, found["count lines"].feedback) == (1, -1)
    assert found["count lines"].time == 1772362800.0
    assert found["log in"].proposal == "mysql -u root -pREDACTED"
    assert (found["explain"].proposal, found["explain"].command) == ("", "")


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        ("1700000000", 1.7e9), ("1700000000000", 1.7e9), (1_700_000_000_000, 1.7e9), (1_700_000_000_000_000, 1.7e9),
        (1_700_000_000_000_000_000, 1.7e9), ("1.7e15", 1.7e9), (1700000000.5, 1700000000.5), ("2023-11-14T22:13:20", 1.7e9),
        ("inf", 0.0), ("nan", 0.0), (float("inf"), 0.0), (-5, 0.0), ("-1700000000000", 0.0), ("1901-01-01", 0.0),
        ("9999-12-31", 0.0), ("yesterday", 0.0), (None, 0.0), ("9" * 400, 0.0),
    ],
)  # fmt: skip
def test_times_are_seconds_whatever_they_were_counted_in(
    store: Store, tmp_path: pathlib.Path, timestamp: object, seconds: float
) -> None:
    """Milliseconds as text, and whole micro- and nanoseconds, were taken for seconds: the year 55,000."""
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as connection:
        columns = "id, timestamp, user_input, ai_response, user_feedback, context, success"
        connection.execute(f"create table user_interactions ({columns})")
        connection.execute(
            "insert into user_interactions values (1, ?, 'list files', 'ls', null, null, 1)", (timestamp,)
        )
    connection.close()
    assert import_table(store, path) == 1
    assert [found.time for found in store.list()] == [pytest.approx(seconds, rel=1e-12)]


def test_what_is_no_table_is_one_clear_line(store: Store, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        import_table(store, tmp_path / "missing.db")
    (tmp_path / "text").write_text("no database at all" * 200)
    with pytest.raises(DataError, match="cannot be read"):
        import_table(store, tmp_path / "text")
    with sqlite3.connect(tmp_path / "empty.db") as connection:
        connection.execute("create table other (id)")
    connection.close()
    with pytest.raises(DataError, match="has no table user_interactions"):
        import_table(store, tmp_path / "empty.db")
    with sqlite3.connect(tmp_path / "half.db") as connection:
        connection.execute("create table user_interactions (id, timestamp, user_input)")
    connection.close()
    with pytest.raises(DataError, match="without ai_response"):
        import_table(store, tmp_path / "half.db")


def test_a_history_gives_commands_without_secrets_once(store: Store, tmp_path: pathlib.Path) -> None:
    path = tmp_path / ".bash_history"
    path.write_text("ls -la\nexport DB_PASSWORD=hunter2\ndf -h\n")
    assert import_history(store, History("bash", path)) == 2
    path.write_text(path.read_text() + "uptime\n")
    assert import_history(store, History("bash", path)) == 1
    assert [(i.command, i.exit_code, i.source) for i in store.list()] == [
        ("ls -la", None, "history"), ("df -h", None, "history"), ("uptime", None, "history"),
    ]  # fmt: skip
