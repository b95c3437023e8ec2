"""The store: encrypted, without secrets, for several processes, whole after kill -9, and able to forget."""

from __future__ import annotations

import pathlib
import signal
import sqlite3
import subprocess
import sys

import pytest

from overseer_training.errors import DataError, NotAvailableError, UsageError
from overseer_training.guards.keys import open_keys
from overseer_training.learning.consent import read_consent, write_consent
from overseer_training.learning.interaction import Interaction
from overseer_training.learning.store import Store

KEY = bytes(range(32))
ASKED = Interaction(100.0, "ask", "list big files in ~/projects/apollo", "du -a | sort -n", directory="/home/kim")
WRITER = """
import pathlib, sys
from overseer_training.learning.interaction import Interaction
from overseer_training.learning.store import Store
store = Store(pathlib.Path(sys.argv[1]), bytes(range(32)))
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    store.add([Interaction(float(number), "ask", f"{sys.argv[2]} {number} {place}") for place in "ab"])
    print(number, flush=True)
"""


def start_writer(folder: pathlib.Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(count)], stdout=subprocess.PIPE, text=True
    )


def bytes_on_disk(folder: pathlib.Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_is_added_comes_back(store: Store) -> None:
    assert store.add([ASKED, Interaction(99.0, "shell", command="ls", exit_code=0)]) == 2
    assert [(found.request, found.command, found.exit_code) for found in store.list()] == [
        ("", "ls", 0), (ASKED.request, "", None),
    ]  # fmt: skip
    status = store.status()
    assert (status.counts, status.oldest, status.newest, status.consent) == ({"ask": 1, "shell": 1}, 99.0, 100.0, "on")


def test_nothing_is_readable_on_disk(store: Store, folder: pathlib.Path) -> None:
    store.add([ASKED])
    assert b"apollo" not in bytes_on_disk(folder)
    store.close()
    assert b"apollo" not in bytes_on_disk(folder)
    assert b"SQLite format" not in bytes_on_disk(folder)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(folder / "interactions.db").execute("select * from interactions")
    assert (folder / "interactions.db").stat().st_mode & 0o077 == 0


def test_a_wrong_key_is_refused_in_one_line(store: Store, folder: pathlib.Path) -> None:
    store.add([ASKED])
    with pytest.raises(UsageError, match="does not open with this key") as caught:
        Store(folder, bytes(32))
    assert "\n" not in str(caught.value)
    assert len(store.list()) == 1


def test_the_key_is_that_of_a_passphrase(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "correct horse battery")
    keys = folder.parent
    with Store(folder, open_keys(keys).data_key("interactions")) as opened:
        opened.add([ASKED])
    with Store(folder, open_keys(keys).data_key("interactions")) as opened:
        assert len(opened.list()) == 1
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "another horse battery")
    with pytest.raises(UsageError, match="passphrase is wrong"):
        open_keys(keys)


def test_secrets_are_gone_before_anything_is_stored(store: Store) -> None:
    store.add(
        [
            Interaction(
                1.0, "ask", "log in to mysql with password Falcon-winter-77", "mysql -u root -pFalcon-winter-77",
                "mysql -u root -pFalcon-winter-77 shop", 1, "denied: Falcon-winter-77",
            )
        ]
    )  # fmt: skip
    found = store.list()[0]
    assert "Falcon" not in repr(found)
    assert found.command == "mysql -u root -pREDACTED shop"


@pytest.mark.parametrize("state", ["unasked", "off", "paused"])
def test_nothing_is_stored_without_consent(store: Store, folder: pathlib.Path, state: str) -> None:
    (folder / "consent").unlink()
    if state != "unasked":
        write_consent(folder, state)  # type: ignore[arg-type]
    assert read_consent(folder) == state
    with pytest.raises(NotAvailableError, match="overseer learn resume"):
        store.add([ASKED])
    assert store.list() == []


def test_a_consent_that_cannot_be_read_is_none(folder: pathlib.Path) -> None:
    (folder / "consent").write_bytes(b"\xff\xfe")
    assert read_consent(folder) == "off"


def test_forgetting_leaves_no_byte_and_no_free_page(store: Store, folder: pathlib.Path) -> None:
    store.add(
        [Interaction(float(n), "ask", f"about {'apollo' if n % 2 else 'gemini'} {'x' * 500}") for n in range(200)]
    )
    assert store.forget(pattern="*apollo*") == 100
    assert [found.request.split()[1] for found in store.list()] == ["gemini"] * 100
    assert (folder / "interactions.db-wal").stat().st_size == 0
    assert store._first("pragma freelist_count") == 0
    assert b"apollo" not in bytes_on_disk(folder)


def test_forgetting_by_number_time_and_all(store: Store) -> None:
    store.add([Interaction(float(n), "ask", f"r{n}") for n in range(10)])
    assert store.forget(identities=[store.list()[0].id]) == 1
    assert store.forget(since=8.0) == 2
    assert store.forget(since=2.0, until=3.0) == 2
    assert [found.request for found in store.list()] == ["r1", "r4", "r5", "r6", "r7"]
    with pytest.raises(UsageError, match="say what to forget"):
        store.forget()
    assert store.forget(everything=True) == 5
    assert store.list() == []


def test_what_has_no_known_time_is_in_no_span(store: Store) -> None:
    """Imported history, whose time is 0, went with everything up to a day."""
    store.add([Interaction(time, "history", f"at {time}") for time in (0.0, 5.0, 1.7e12)])
    assert store.forget(until=9.0) == 1
    assert store.forget(since=-1.0) == 0
    assert [found.time for found in store.list()] == [0.0, 1.7e12]
    assert store.forget(pattern="at") == 2


def test_everything_is_forgotten_only_where_nothing_else_was_said(store: Store) -> None:
    store.add([ASKED])
    for others in ({"identities": [7]}, {"pattern": "apollo"}, {"pattern": ""}, {"since": 1.0}, {"until": 1.0}):
        with pytest.raises(UsageError, match="--all forgets everything"):
            store.forget(everything=True, **others)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--pattern with a text"):
        store.forget(pattern="", since=1.0)
    assert len(store.list()) == 1


def test_nothing_is_forgotten_before_whoever_asked_was_told(store: Store) -> None:
    store.add([ASKED, ASKED])

    def refuse(number: int) -> None:
        raise DataError(f"{number} cannot be put on record")

    with pytest.raises(DataError, match="2 cannot be put on record"):
        store.forget(everything=True, before=refuse)
    assert len(store.list()) == 2


@pytest.mark.parametrize("pattern", ["apollo", "*apollo*", "du -a", "list big files*", "/home/ki[mn]"])
def test_a_text_is_found_within_and_a_pattern_fits_as_a_whole(store: Store, pattern: str) -> None:
    store.add([ASKED, Interaction(1.0, "ask", "gemini")])
    assert [found.request for found in store.list(pattern)] == [ASKED.request]


def test_feedback_is_kept(store: Store) -> None:
    store.add([ASKED])
    store.give_feedback(store.list()[0].id, 1)
    assert store.list()[0].feedback == 1
    with pytest.raises(UsageError, match="no interaction 99"):
        store.give_feedback(99, 1)


def test_an_origin_is_stored_once(store: Store) -> None:
    assert store.add([ASKED, ASKED], ["a", "b"]) == 2
    assert store.add([ASKED, ASKED], ["b", "c"]) == 1


def test_several_processes_write_at_once(store: Store, folder: pathlib.Path) -> None:
    writers = [start_writer(folder, name, 20) for name in ("left", "right")]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(store.list()) == 80


def test_several_processes_make_a_store_at_once(folder: pathlib.Path) -> None:
    writers = [start_writer(folder, name, 2) for name in ("a", "b", "c")]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with Store(folder, KEY) as opened:
        assert len(opened.list()) == 12


def test_a_killed_writer_leaves_whole_transactions(store: Store, folder: pathlib.Path) -> None:
    writer = start_writer(folder, "killed", 100_000)
    assert writer.stdout is not None
    done = -1
    while done < 5:
        line = writer.stdout.readline().strip()
        done = int(line) if line.isdecimal() else done
    writer.send_signal(signal.SIGKILL)
    rest = [int(line) for line in writer.communicate(timeout=30)[0].split()]
    done = max([done, *rest])
    with Store(folder, KEY) as opened:
        found = opened.list()
        assert len(found) % 2 == 0  # each transaction has two
        assert len(found) >= 2 * (done + 1)  # nothing that was reported is missing
        assert opened._first("pragma integrity_check") == "ok"
        opened.add([ASKED])


def test_a_damaged_file_is_one_clear_line(store: Store, folder: pathlib.Path) -> None:
    store.close()
    (folder / "interactions.db").write_bytes(b"x" * 8192)
    with pytest.raises((UsageError, DataError), match=r"interactions\.db"):
        Store(folder, KEY)
