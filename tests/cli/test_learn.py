"""`overseer learn` and `ask` where the key is locked, the audit log cannot be written, or what to forget is said in words and days."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Iterator, Sequence

import pytest

from overseer_training import cli, custody
from overseer_training.data.sealed import owners_keys
from overseer_training.evaluation.checks import Check
from overseer_training.evaluation.gate import Gate, write_gate
from overseer_training.guards.keys import open_keys
from overseer_training.guards.master_key import VARIABLE, KdfParameters
from overseer_training.learning.consent import read_consent, write_consent
from overseer_training.learning.gate import hash_model, promote
from overseer_training.learning.interaction import Interaction, learning_folder
from overseer_training.learning.store import Store
from overseer_training.prompts import EXPLAIN_REQUEST
from overseer_training.records import RunPaths
from overseer_training.run_folder import point_latest
from overseer_training.serving.backends import Answer, Message, Settings

MILLISECONDS = 1.7e12  # as seconds, the year 55,840


@pytest.fixture
def state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The state folder of somebody who agreed, and has a passphrase."""
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no-runtime"))
    monkeypatch.setenv(VARIABLE, "several quiet words")
    custody._log.cache_clear()
    open_keys(
        kdf=KdfParameters(memory_kib=19 * 1024, iterations=2, lanes=1)
    )  # the least that is taken, so that tests are fast
    write_consent(learning_folder(), "on")
    yield tmp_path / "state"
    custody._log.cache_clear()


def fill(*interactions: Interaction) -> None:
    with Store(learning_folder(), owners_keys().data_key("interactions")) as store:
        store.add(interactions)


def kept() -> list[str]:
    with Store(learning_folder(), owners_keys().data_key("interactions")) as store:
        return [found.request for found in store.list()]


def asked(moment: str, request: str) -> Interaction:
    return Interaction(datetime.datetime.fromisoformat(moment).timestamp(), "ask", request)


def break_audit_log(state: pathlib.Path) -> None:
    custody.record("training", rows=1)
    (state / "audit.head.json").write_text("{")


def mend_audit_log(state: pathlib.Path) -> None:
    (state / "audit.head.json").unlink()
    (state / "audit.jsonl").unlink()


def test_pause_pauses_where_no_key_opens(
    state: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Was an error, and the hooks went on."""
    monkeypatch.delenv(VARIABLE)
    assert cli.main(["learn", "pause"]) == 0
    assert read_consent(learning_folder()) == "paused"
    shown = capsys.readouterr()
    assert shown.out == "paused: nothing more is kept\n"
    assert shown.err.count("\n") == 1 and VARIABLE in shown.err


def test_pause_keeps_what_was_noted_before_it(state: pathlib.Path) -> None:
    spool = learning_folder() / "spool"
    spool.mkdir()
    (spool / "s").write_text("\x1ebash\x1fs\x1f\x1f0\x1f/\x1f 7 1700000000 ls -la\n\x1f")
    assert cli.main(["learn", "pause"]) == 0
    assert read_consent(learning_folder()) == "paused" and list(spool.iterdir()) == []
    assert len(kept()) == 1


class Parrot:
    """A model that knows one command."""

    kind = "parrot"

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        return Answer("Lists files." if EXPLAIN_REQUEST in str(messages[-1]) else "ls -la", 1, 1, "stop")


def test_ask_answers_and_explains_where_no_key_opens(
    state: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Was the command, an error instead of the explanation, and exit code 2."""
    monkeypatch.setattr("overseer_training.serving.backends.load_backend", lambda folder: Parrot())
    assert cli.main(["ask", "--explain", "list", "files"]) == 0
    assert capsys.readouterr() == ("ls -la\n# Lists files.\n", "")
    assert kept() == ["list files"]
    monkeypatch.delenv(VARIABLE)
    assert cli.main(["ask", "--explain", "list", "more files"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "ls -la\n# Lists files.\n"
    assert shown.err.count("\n") == 1 and "is not kept to learn from" in shown.err and VARIABLE in shown.err


def test_nothing_is_forgotten_without_its_entry(state: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Was deleted, and then an error that said that it was not."""
    fill(Interaction(1.7e9, "ask", "one"), Interaction(1.7e9, "ask", "two"))
    break_audit_log(state)
    assert cli.main(["learn", "forget", "--all"]) == 3
    assert "audit log" in capsys.readouterr().err
    assert kept() == ["one", "two"]
    mend_audit_log(state)
    assert cli.main(["learn", "forget", "--all"]) == 0
    assert capsys.readouterr().out == "2 forgotten\n" and kept() == []
    entry = json.loads((state / "audit.jsonl").read_text())
    assert (entry["event"], entry["source"], entry["rows"]) == ("deletion", "interactions", 2)


def test_a_rollback_that_is_not_on_record_is_not_done(
    state: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Was done, and then an error; repeated, it went back once more."""
    runs, latest = tmp_path / "runs", tmp_path / "runs" / "latest"
    for name in ("first", "second", "third"):
        paths = RunPaths(runs / name)
        paths.model.mkdir(parents=True)
        (paths.model / "model.safetensors").write_text(name)
        write_gate(paths, Gate((Check("x", "passed", "fine"),), hash_model(paths.root)))
        promote(paths.root, latest, point_latest)
    break_audit_log(state)
    assert cli.main(["learn", "rollback", "--latest", str(latest)]) == 3
    assert latest.resolve().name == "third"
    mend_audit_log(state)
    assert cli.main(["learn", "rollback", "--latest", str(latest)]) == 0
    assert latest.resolve().name == "second"
    assert capsys.readouterr().out == f"{latest} is second again\n"
    entry = json.loads((state / "audit.jsonl").read_text())
    assert (entry["event"], entry["run"], entry["decision"]) == ("promotion", "second", "rolled back")


def test_a_rollback_that_cannot_be_done_has_no_entry(state: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "only").mkdir()
    point_latest(tmp_path / "only")
    assert cli.main(["learn", "rollback", "--latest", str(tmp_path / "latest")]) == 2
    assert not (state / "audit.jsonl").exists()


@pytest.mark.parametrize("more", [["--since", "2026-11-22"], ["--pattern", "apollo"], ["--until", "2026-11-22"], ["7"]])
def test_all_beside_anything_else_is_refused(
    state: pathlib.Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Was everything, whatever else was said."""
    fill(Interaction(1.7e9, "ask", "one"))
    assert cli.main(["learn", "forget", "--all", *more]) == 2
    assert "--all forgets everything" in capsys.readouterr().err
    assert kept() == ["one"] and not (state / "audit.jsonl").exists()


def test_a_day_is_forgotten_to_its_end(state: pathlib.Path) -> None:
    """Was forgotten to its first second."""
    fill(
        asked("2026-11-21T23:59:59", "before"), asked("2026-11-22T00:00:01", "morning"),
        asked("2026-11-22T23:59:59", "evening"), asked("2026-11-23T00:00:00", "after"),
    )  # fmt: skip
    assert cli.main(["learn", "forget", "--since", "2026-11-22", "--until", "2026-11-22T12:00"]) == 0
    assert kept() == ["before", "evening", "after"]
    assert cli.main(["learn", "forget", "--since", "2026-11-22", "--until", "2026-11-22"]) == 0
    assert kept() == ["before", "after"]


@pytest.mark.parametrize("text", ["22.11.2026", "2026-13-01", "0001-01-01", ""])
def test_what_is_no_date_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--since", "--until"):
        assert cli.main(["learn", "forget", flag, text]) == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and "is no date; write it as" in shown


def test_a_text_is_found_within_and_a_pattern_fits_as_a_whole(
    state: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text was looked for as a whole, and found nothing."""
    fill(asked("2026-11-22", "back up apollo to the nas"), asked("2026-11-22", "back up gemini"))
    for pattern, found in (("apollo", "apollo"), ("back up ?emini", "gemini"), ("*apollo*", "apollo")):
        assert cli.main(["learn", "list", "--pattern", pattern]) == 0
        shown = capsys.readouterr().out
        assert shown.count("\n") == 1 and found in shown, pattern
    assert cli.main(["learn", "list", "--pattern", "?pollo"]) == 0
    assert capsys.readouterr().out == ""


def test_rows_of_no_year_that_there_will_be_are_shown(state: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Were a traceback: imports took milliseconds for seconds."""
    fill(
        asked("2026-11-22T10:00", "one"), *(Interaction(time, "table", f"at {time}") for time in (MILLISECONDS, 1e300))
    )
    assert cli.main(["learn", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "2026-11-22 10:00" in lines[0] and all("unknown time" in line for line in lines[1:])
    assert cli.main(["learn", "status"]) == 0
    assert "from 2026-11-22 10:00 to 2026-11-22 10:00, " in capsys.readouterr().out
