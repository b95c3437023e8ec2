"""Shell histories: read as each shell writes them, without secrets, and turned into rows through the families of the corpus."""

from __future__ import annotations

import json
import pathlib
import sqlite3

import pytest

from overseer_training.data.sealed import Sealer
from overseer_training.data.sources.corpus import Family
from overseer_training.data.sources.history import History, find_histories, read_commands, rows_from_commands
from overseer_training.errors import DataError

WRITTEN = {
    ".bash_history": b"#1700000000\nls -la\n#1700000001\ncd /srv\nls -la\nexport TOKEN=a8f3kd93jf83\n",
    ".zsh_history": b": 1700000000:0;ls -la\n: 1700000001:5;for a in b; do\\\necho $a\\\ndone\necho caf\x83\xe3\x83\x89\n",
    ".local/share/fish/fish_history": b"- cmd: ls -la\n  when: 1700000000\n- cmd: echo a\\\\nb\n  when: 1700000001\n",
}


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for name, content in WRITTEN.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    database = tmp_path / ".local/share/atuin/history.db"
    database.parent.mkdir()
    with sqlite3.connect(database) as connection:
        connection.execute("create table history (command text, exit integer, timestamp integer)")
        connection.executemany(
            "insert into history values (?, ?, ?)", [("df -h", 0, 2), ("dff", 127, 1), ("ls -la", 0, 0)]
        )
    return tmp_path


def test_every_shell_is_read_as_it_writes(home: pathlib.Path) -> None:
    assert {history.shell: read_commands(history) for history in find_histories(home)} == {
        "bash": ["ls -la", "cd /srv"],
        "zsh": ["ls -la", "echo café"],
        "fish": ["ls -la", "echo a\\nb"],
        "atuin": ["ls -la", "df -h"],
    }


def test_a_broken_database_is_one_clear_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "history.db").write_bytes(b"not a database, but long enough to be taken for one" * 20)
    with pytest.raises(DataError, match="cannot be read"):
        read_commands(History("atuin", tmp_path / "history.db"))


def family(command: str, *wordings: str, **slots: str) -> Family:
    return Family("a-family", "x", "media", command, wordings, "why", slots=(slots,))


def test_a_command_with_the_form_of_a_family_gives_its_wordings_with_the_owners_values() -> None:
    restart = family(
        "sudo systemctl restart {service}", "restart {service}", "{service} hangs, start it again", service="nginx"
    )
    rows = list(rows_from_commands(["sudo  systemctl restart my-app", "sudo systemctl restart a b", "ls"], [restart]))
    assert sorted((row.query, row.answer) for row in rows) == [
        ("my-app hangs, start it again", "sudo systemctl restart my-app"),
        ("restart my-app", "sudo systemctl restart my-app"),
    ]
    assert {row.source for row in rows} == {"history"}
    sealer = Sealer(lambda row: {"query": row.query})
    assert [json.loads(sealer.line_of(row)) for row in rows] == [{"sealed": 0}, {"sealed": 1}]


def test_sudo_alone_and_programs_whose_names_begin_with_it_are_no_trouble() -> None:
    """A line `sudo` ended the reading of the whole history, and `sudoedit` was looked for as `edit`."""
    change = family("sudoedit {file}", "change {file} as administrator", file="/etc/hosts")
    rows = list(rows_from_commands(["sudo", "sudoedit /etc/fstab"], [change]))
    assert [(row.query, row.answer) for row in rows] == [("change /etc/fstab as administrator", "sudoedit /etc/fstab")]


def test_a_slot_that_comes_twice_has_one_value() -> None:
    copy = family("cp {file} {file}.bak", "keep a copy of {file}", file="a")
    rows = list(rows_from_commands(["cp x.conf x.conf.bak", "cp x.conf y.conf.bak"], [copy]))
    assert [row.query for row in rows] == ["keep a copy of x.conf"]


def test_families_that_are_held_out_are_not_taught_by_a_history() -> None:
    number = next(n for n in range(1000) if family(f"head -n {n} {{file}} x", "a {file}", file="f").split == "test")
    held_out = family(f"head -n {number} {{file}} x", "a {file}", file="f")
    assert not list(rows_from_commands([f"head -n {number} notes x"], [held_out]))
