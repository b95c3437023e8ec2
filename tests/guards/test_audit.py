"""The audit log: complete after crashes, and every change by somebody without the key is found."""

from __future__ import annotations

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from overseer_training.errors import DataError, UsageError
from overseer_training.guards.audit import AuditLog, format_entry
from overseer_training.guards.audit_chain import Head, hash_line, make_line

SIGNER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC = SIGNER.public_key()
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
REPOSITORY = pathlib.Path(__file__).parents[2]
START = """
import sys
sys.path.insert(0, {repository!r})
import pathlib
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from overseer_training.errors import DataError
from overseer_training.guards.audit import AuditLog
log = AuditLog(pathlib.Path({folder!r}), Ed25519PrivateKey.from_private_bytes(b"s" * 32))
"""


@pytest.fixture
def log(tmp_path: pathlib.Path) -> AuditLog:
    log = AuditLog(tmp_path / "s", SIGNER)
    for number in range(6):
        log.append("training", run=f"run-{number}", rows=number)
    return log


def start(log: AuditLog, program: str) -> subprocess.Popen[str]:
    text = START.format(repository=str(REPOSITORY), folder=str(log.path.parent)) + program
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def lines_of(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_a_log_that_nobody_touched_is_sound(log: AuditLog) -> None:
    assert log.verify(PUBLIC) == log.verify(PUBLIC, known=log.head_line())
    assert (log.verify(PUBLIC).entries, log.verify(PUBLIC).problems, log.verify(PUBLIC).notes) == (6, (), ())
    assert {path.stat().st_mode & 0o077 for path in (log.path, log.head_path, log.path.parent)} == {0}


def test_no_byte_of_the_log_can_be_changed(log: AuditLog) -> None:
    content = log.path.read_bytes()
    for place in range(0, len(content), 31):
        log.path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert log.verify(PUBLIC).problems, place


@pytest.mark.parametrize("number", range(6))
def test_a_line_cannot_be_taken_out_repeated_or_exchanged(log: AuditLog, number: int) -> None:
    lines = lines_of(log)
    exchanged = lines[:]
    exchanged[number], exchanged[number - 1] = exchanged[number - 1], exchanged[number]
    for other in (lines[:number] + lines[number + 1 :], [*lines[:number], lines[number], *lines[number:]], exchanged):
        log.path.write_bytes(b"".join(other))
        assert log.verify(PUBLIC).problems


@pytest.mark.parametrize("kept", range(6))
@pytest.mark.parametrize("torn", [0, 30])
def test_lines_cannot_be_cut_off_at_the_end(log: AuditLog, kept: int, torn: int) -> None:
    lines = lines_of(log)
    log.path.write_bytes(b"".join(lines[:kept]) + lines[kept][:torn])
    assert any("cut off" in problem for problem in log.verify(PUBLIC).problems)
    before = log.path.read_bytes()
    with pytest.raises(DataError, match="was changed: its last signed line is missing"):
        log.append("training", rows=1)
    assert log.path.read_bytes() == before


def test_a_chain_that_was_made_anew_is_not_signed(log: AuditLog) -> None:
    for signer in (None, OTHER):
        lines: list[bytes] = []
        for number in range(6):
            last = Head(number, hash_line(lines[-1])) if lines else Head()
            lines.append(make_line(last, "training", {"rows": 1 + number}, signer))
        log.path.write_bytes(b"".join(lines))
        assert log.verify(PUBLIC).problems
        assert not AuditLog(log.path.parent).verify(None).problems[1:]  # without the key only the head tells
        with pytest.raises(DataError, match="was changed"):
            log.append("training", rows=1)


@pytest.mark.parametrize("signer", [None, OTHER])
def test_a_line_that_somebody_else_adds_is_found_and_not_built_upon(
    log: AuditLog, signer: Ed25519PrivateKey | None
) -> None:
    forged = make_line(Head(6, hash_line(lines_of(log)[-1])), "promotion", {"model": "mine"}, signer)
    with log.path.open("ab") as handle:
        handle.write(forged)
    assert log.verify(PUBLIC).problems == ("line 7 has no signature of this key",)
    with pytest.raises(DataError, match="has no signature of this key"):
        log.append("training", rows=1)


@pytest.mark.parametrize("how", ["gone", "of another key", "older", "garbled", "longer"])
def test_a_head_that_was_exchanged_is_found(log: AuditLog, tmp_path: pathlib.Path, how: str) -> None:
    if how == "older":
        old = log.head_path.read_bytes()
        log.append("training", rows=7)
        log.append("training", rows=8)
        log.head_path.write_bytes(old)
        assert log.verify(PUBLIC).problems == ("2 lines are newer than the head",)
        return
    if how == "gone":
        log.head_path.unlink()
    elif how == "of another key":
        other = AuditLog(tmp_path / "other", OTHER)
        other.append("training", rows=1)
        log.head_path.write_bytes(other.head_path.read_bytes())
    elif how == "garbled":
        log.head_path.write_text("{")
    else:
        document = json.loads(log.head_path.read_text())
        log.head_path.write_text(json.dumps({**document, "length": 7}))
    assert log.verify(PUBLIC).problems
    with pytest.raises(DataError, match="was changed"):
        log.append("training", rows=1)


def test_an_older_pair_of_both_files_is_found_with_a_head_that_was_noted_elsewhere(log: AuditLog) -> None:
    log_then, head_then = log.path.read_bytes(), log.head_path.read_bytes()
    log.append("deletion", source="history")
    noted = log.head_line()
    log.append("training", rows=9)
    assert not log.verify(PUBLIC, known=noted).problems
    log.path.write_bytes(log_then)
    log.head_path.write_bytes(head_then)
    assert not log.verify(PUBLIC).problems
    assert "cut off" in log.verify(PUBLIC, known=noted).problems[0]
    with pytest.raises(UsageError, match="copy it again"):
        log.verify(PUBLIC, known="7")


def test_a_torn_last_line_is_reported_cut_off_and_noted(log: AuditLog) -> None:
    with log.path.open("ab") as handle:
        handle.write(b'{"index": 6, "ti')
    found = log.verify(PUBLIC)
    assert found.problems == () and "torn (16 bytes)" in found.notes[0] and found.entries == 6
    log.append("export", path="export")
    assert log.verify(PUBLIC).problems == log.verify(PUBLIC).notes == ()
    repair, export = list(log.entries())[6:]
    assert (repair["event"], repair["bytes_cut"], export["event"]) == ("repair", 16, "export")


def test_a_signed_line_that_the_head_lacks_is_a_crash_and_no_attack(log: AuditLog) -> None:
    head = log.head_path.read_bytes()
    log.append("training", rows=7)
    log.head_path.write_bytes(head)
    assert log.verify(PUBLIC).problems == () and "newer than the head" in log.verify(PUBLIC).notes[0]
    log.append("training", rows=8)
    assert log.verify(PUBLIC).notes == () and log.verify(PUBLIC).entries == 8


def test_processes_append_at_once(log: AuditLog) -> None:
    program = "for number in range(15): log.append('data-access', source='history', rows=number)"
    processes = [start(log, program) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["", "", ""]
    assert log.verify(PUBLIC).problems == () and log.verify(PUBLIC).entries == 6 + 45


def test_a_killed_process_loses_nothing_that_was_acknowledged(log: AuditLog) -> None:
    chance, acknowledged = random.Random(5), 0
    for _ in range(5):
        process = start(log, "while True:\n    log.append('training', rows=1)\n    print('written', flush=True)")
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        time.sleep(chance.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        acknowledged += 1 + len(process.stdout.read().splitlines())
        process.wait()
        process.stdout.close()
        found = log.verify(PUBLIC)
        assert found.problems == () and found.entries >= 6 + acknowledged
        log.append("training", rows=2)
        acknowledged += 1
    assert log.verify(PUBLIC).problems == log.verify(PUBLIC).notes == ()


def test_a_full_disk_is_one_line_and_leaves_no_half_entry(log: AuditLog) -> None:
    size = log.path.stat().st_size
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 50}, {size + 50}))
try:
    log.append('training', rows=1)
except DataError as error:
    print(error)
"""
    process = start(log, program)
    said, _ = process.communicate(timeout=60)
    assert "cannot be written" in said and said.count("\n") == 1
    assert log.path.stat().st_size == size and log.verify(PUBLIC).problems == ()


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("training", {"command": "rm -r x"}), ("training", {"run": "a\nb"}), ("training", {"run": "x" * 201}), ("party", {}),
        ("training", {"rows": "12"}), ("training", {"rows": True}), ("training", {"sha256": "secret"}), ("training", {"run": 3}),
        ("training", {"previous": "0"}), ("training", {"signature": "0"}),
    ],
)  # fmt: skip
def test_the_log_has_no_place_for_contents(log: AuditLog, event: str, fields: dict[str, str | int]) -> None:
    with pytest.raises(UsageError, match="the audit log") as caught:
        log.append(event, **fields)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert log.verify(PUBLIC).entries == 6


def test_a_signed_log_takes_no_unsigned_lines(log: AuditLog) -> None:
    with pytest.raises(UsageError, match="its key is locked; set OVERSEER_PASSPHRASE, or unlock the keyring"):
        AuditLog(log.path.parent).append("training", rows=1)


def test_an_unsigned_log_says_so_and_can_be_signed_later(tmp_path: pathlib.Path) -> None:
    log = AuditLog(tmp_path / "s")
    log.append("training", rows=1)
    log.append("training", rows=2)
    assert log.verify(None).problems == () and "not checked" in log.verify(None).notes[0]
    AuditLog(tmp_path / "s", SIGNER).append("training", rows=3)
    assert log.verify(PUBLIC).problems == () and "first 2 lines are unsigned" in log.verify(PUBLIC).notes[0]


def test_the_log_is_not_written_through_a_link(log: AuditLog, tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").write_bytes(log.path.read_bytes())
    log.path.unlink()
    log.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="cannot be opened"):
        log.append("training", rows=1)
    with pytest.raises(DataError, match="cannot be opened"):
        log.verify(PUBLIC)


def test_entries_are_shown_by_event_time_and_text(log: AuditLog) -> None:
    log.append("teacher-traffic", teacher="ollama", endpoint="127.0.0.1", requests=3, bytes_sent=812)
    (shown,) = log.entries("teacher-traffic")
    assert format_entry(shown).endswith("teacher-traffic teacher=ollama endpoint=127.0.0.1 requests=3 bytes_sent=812")
    assert [entry["rows"] for entry in log.entries(text="run-2")] == [2]
    year = shown["time"][:4]
    assert len(list(log.entries(since=year, until=year))) == 7
    assert not list(log.entries(until="2001")) and not list(log.entries(since="9999"))
