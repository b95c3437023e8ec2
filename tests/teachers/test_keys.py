"""A key is found where people keep it, and shows up nowhere else."""

from __future__ import annotations

import logging
import pathlib
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator

import keyring
import keyring.backend
import keyring.errors
import pytest
from loopback.teachers import FakeServer

from overseer_training.errors import UsageError
from overseer_training.teachers.ask import Budget, Patience
from overseer_training.teachers.keys import KEYRING_SERVICE, ApiKey, find_key
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher
from overseer_training.teachers.protocol import Teacher, TeacherError
from overseer_training.teachers.taught import teach
from overseer_training.teachers.write import answer

from .conftest import KEY, TIMEOUT_SECONDS


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that holds one key, or is locked."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, value: str | None, is_locked: bool = False) -> None:
        super().__init__()
        self.value, self.is_locked = value, is_locked

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked("locked")
        return self.value if (service, username) == (KEYRING_SERVICE, "gemini") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("nothing is stored by itself")


@pytest.fixture
def set_keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[MemoryKeyring], None]]:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_argument_then_environment_then_keyring(
    set_keyring: Callable[[MemoryKeyring], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keyring(MemoryKeyring("from-the-keyring"))
    assert find_key(None).reveal() == "from-the-keyring"
    monkeypatch.setenv("GEMINI_API_KEY", "from-the-environment\n")
    assert find_key(None).reveal() == "from-the-environment"
    assert find_key("from-the-argument").reveal() == "from-the-argument"


@pytest.mark.parametrize("is_locked", [False, True])
def test_no_key_says_where_to_put_one(set_keyring: Callable[[MemoryKeyring], None], is_locked: bool) -> None:
    set_keyring(MemoryKeyring(None, is_locked))
    with pytest.raises(UsageError, match="GEMINI_API_KEY"):
        find_key(None)


@pytest.mark.parametrize("value", [" ", "two words", "schlüssel-1234", "a\nb"])
def test_what_no_header_can_carry_is_no_key(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        ApiKey(value)
    assert value.strip() == "" or value not in str(caught.value)


def test_a_key_shows_itself_in_no_text_and_no_pickle() -> None:
    key = ApiKey(KEY)
    assert KEY not in f"{key} {key!r} {[key]}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("form", [["--llm-api-key", KEY], [f"--llm-api-key={KEY}"]])
def test_the_process_title_and_the_arguments_lose_the_key(form: list[str]) -> None:
    program = (
        "import sys, pathlib; from overseer_training.teachers.keys import *\n"
        "value = sys.argv[-1].rpartition('=')[2]\n"
        "assert value.encode() in pathlib.Path('/proc/self/cmdline').read_bytes()\n"
        "hide_from_process_title(find_key(value)); del value\n"
        "print(pathlib.Path('/proc/self/cmdline').read_bytes(), pathlib.Path('/proc/self/environ').read_bytes())\n"
        "print(sys.argv, sys.orig_argv)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program, *form], capture_output=True, text=True, check=True).stdout
    assert KEY not in shown and "--llm-api-key" in shown


@pytest.mark.parametrize("kind", ["gemini", "openai"])
@pytest.mark.parametrize("fault", [400, 403, 429, "malformed", "cut", "slow"])
def test_a_server_that_repeats_the_key_gives_it_to_nobody(
    fault: int | str, kind: str, server: FakeServer, teacher_of: Callable[[str], Teacher],
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    server.faults = [fault] * 2
    server.words_of_faults = f"your API key {KEY} is not valid"
    server.answer = lambda text: f'{{"command": "echo {KEY}"}}'
    if kind == "gemini":
        teacher: Teacher = teacher_of(kind)
    else:
        teacher = OpenAICompatibleTeacher(server.address, key=ApiKey(KEY), timeout_seconds=TIMEOUT_SECONDS)
    run = {"check": lambda proposal: None, "is_held_out": lambda text: False, "budget": Budget()}
    shown = repr(teacher) + repr(vars(teacher))
    try:
        taught = teach(
            teacher, [answer("a", "f", "list")], tmp_path, patience=Patience(failures=2, pause_seconds=0), **run
        )  # type: ignore[arg-type]
        shown += str(taught)
    except TeacherError as error:
        logging.getLogger("test").debug("failed", exc_info=error)
        shown += "".join(traceback.format_exception(error))
    server.faults = []
    teach(teacher, [answer("b", "f", "list")], tmp_path, **run)  # type: ignore[arg-type]
    shown += caplog.text + "".join(str(vars(record)) for record in caplog.records)
    shown += "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in shown
    assert KEY in (server.headers[-1]["x-goog-api-key"] if kind == "gemini" else server.headers[-1]["Authorization"])
