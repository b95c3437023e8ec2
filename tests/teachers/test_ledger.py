"""What was paid for survives: torn lines, two runs at once, files that are something else."""

from __future__ import annotations

import pathlib
import stat

import pytest

from overseer_training.errors import DataError, UsageError
from overseer_training.teachers.ledger import Entry, open_ledger


def entry(key: str, text: str = "ünï\u2028code") -> Entry:
    return Entry(key, "t", "m", "a", text, 1, 2, 0.5, "2026-11-23T00:00:00+00:00")


def test_a_torn_last_line_is_cut_off_and_the_rest_is_found(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "ledger.jsonl"
    with open_ledger(path) as ledger:
        ledger.add(entry("one"))
        ledger.add(entry("two"))
    whole = path.read_bytes()
    for cut in (1, 10, len(whole.split(b"\n")[1])):
        path.write_bytes(whole[:-cut])
        with open_ledger(path) as ledger:
            assert ledger.find("one") == entry("one")
            assert ledger.find("two") is None
            ledger.add(entry("two"))
        assert path.read_bytes() == whole


def test_only_the_owner_may_read_it(tmp_path: pathlib.Path) -> None:
    with open_ledger(tmp_path / "ledger.jsonl"):
        assert stat.S_IMODE((tmp_path / "ledger.jsonl").stat().st_mode) == 0o600


def test_one_run_at_a_time_holds_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path), pytest.raises(UsageError, match="another run"), open_ledger(path):
        pass
    with open_ledger(path):
        pass


@pytest.mark.parametrize("content", [b"hello\n", b'{"key": "x"}\n', b"[]\n", b"\xff\xfe\n"])
def test_a_file_that_is_no_ledger_stays_as_it_is(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="line 1 is no answer"), open_ledger(path):
        pass
    assert path.read_bytes() == content
