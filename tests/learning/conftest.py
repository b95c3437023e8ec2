"""A learning folder whose owner agreed, and a store in it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from overseer_training.learning.consent import write_consent
from overseer_training.learning.store import Store

KEY = bytes(range(32))


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no-runtime"))
    made = tmp_path / "state" / "learning"
    write_consent(made, "on")
    return made


@pytest.fixture
def store(folder: pathlib.Path) -> Iterator[Store]:
    with Store(folder, KEY) as opened:
        yield opened
