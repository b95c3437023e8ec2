"""`overseer audit verify` checks what can be checked, with a key and without one, and makes nothing."""

from __future__ import annotations

import pathlib

import pytest

from overseer_training import cli
from overseer_training.guards.audit import AuditLog
from overseer_training.guards.keys import open_keys
from overseer_training.guards.master_key import VARIABLE, KdfParameters

NOT_CHECKED = "signatures were not checked"


@pytest.fixture
def state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("OVERSEER_STATE", str(folder))
    return folder


@pytest.fixture
def signed(state: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AuditLog:
    """A log of two lines whose key is locked by a passphrase that is not set."""
    monkeypatch.setenv(VARIABLE, "several quiet words")
    keys = open_keys(kdf=KdfParameters(memory_kib=19 * 1024, iterations=2, lanes=1))
    log = AuditLog(signer=keys.signing_key("audit"))
    log.append("training", rows=1)
    log.append("training", rows=2)
    monkeypatch.delenv(VARIABLE)
    return log


def take_out_a_line(log: AuditLog) -> None:
    log.path.write_bytes(log.path.read_bytes().partition(b"\n")[2])


def test_a_log_without_signatures_is_checked_without_a_key(
    state: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Was refused for want of a passphrase; with one, keys were made."""
    log = AuditLog()
    log.append("training", rows=1)
    log.append("training", rows=2)
    head = log.head_line()
    monkeypatch.setenv(VARIABLE, "several quiet words")
    assert cli.main(["audit", "verify", "--known", head]) == 0
    said = capsys.readouterr()
    assert NOT_CHECKED in said.out and said.out.endswith(f"{head}\n") and said.err == ""
    assert not (state / "keys.json").exists()
    take_out_a_line(log)
    assert cli.main(["audit", "verify"]) == 1
    assert "does not follow" in capsys.readouterr().out


def test_keys_for_other_things_make_no_key_for_the_log(
    state: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "several quiet words")
    keys = open_keys(kdf=KdfParameters(memory_kib=19 * 1024, iterations=2, lanes=1))
    keys.data_key("telemetry")
    AuditLog().append("training", rows=1)
    assert cli.main(["audit", "verify"]) == 0
    assert NOT_CHECKED in capsys.readouterr().out and keys.names() == ["telemetry"]


@pytest.mark.parametrize("how", ["no passphrase", "a wrong one", "no key"])
def test_a_log_whose_key_cannot_be_opened_is_checked_as_far_as_it_goes(
    signed: AuditLog, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "a wrong one":
        monkeypatch.setenv(VARIABLE, "several other words")
    elif how == "no key":
        (signed.path.parent / "keys.json").unlink()
    assert cli.main(["audit", "verify"]) == 2
    said = capsys.readouterr()
    assert NOT_CHECKED in said.out and signed.head_line() in said.out
    assert said.err.startswith(f"error: {NOT_CHECKED}: ") and said.err.count("\n") == 1
    take_out_a_line(signed)
    assert cli.main(["audit", "verify"]) == 1
    assert "does not follow" in capsys.readouterr().out


def test_a_log_whose_key_opens_has_its_signatures_checked(
    signed: AuditLog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "several quiet words")
    assert cli.main(["audit", "verify"]) == 0
    assert capsys.readouterr().out == f"{signed.head_line()}\n"
