"""A conversation through a pipe and on a real terminal: what is shown, what is kept, and that nothing runs unasked."""

from __future__ import annotations

import io
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from overseer_training.models.llama_file import PromptTooLongError
from overseer_training.serving.backends import Answer, Backend, Message, Settings
from overseer_training.serving.chat import Chat, converse

ROOT = pathlib.Path(__file__).parents[2]
Talk = Callable[..., tuple[str, str]]
FIRST = "list the files in src"


class Scripted:
    """Gives prepared answers, and keeps what it was asked; a conversation with more than `fits` messages is too long."""

    kind = "scripted"

    def __init__(self, *texts: str, fits: int = 1000) -> None:
        self._texts, self._fits = list(texts), fits
        self.asked: list[list[str]] = []

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        if len(messages) > self._fits:
            raise PromptTooLongError(9)
        self.asked.append([message["content"] for message in messages])
        return Answer(self._texts.pop(0), 1, 1, "stop")


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> Talk:
    """(stdout, stderr) of a piped conversation in an empty folder with /bin/sh."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELL", "/bin/sh")

    def run(backend: Backend, *lines: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        converse(backend, "linux")
        return capfd.readouterr()

    return run


def test_commands_stand_alone_on_their_lines(backend: Backend, talk: Talk) -> None:
    assert talk(backend, FIRST, "hidden ones too", "", "/quit", FIRST) == ("ls src\nls -A src\n", "")


def test_an_explanation_is_a_comment_and_no_part_of_the_conversation(backend: Backend, talk: Talk) -> None:
    out, _ = talk(backend, "print hello", "/explain")
    assert out == "echo hello\n# Prints hello.\n"
    scripted = Scripted("ls", "It lists.\nAll of it.", "ls -a")
    assert talk(scripted, "list", "/explain", "hidden")[0] == "ls\n# It lists.\n# All of it.\nls -a\n"
    assert scripted.asked[2] == ["Linux shell.", "list", "ls", "hidden"]


def test_nothing_runs_without_run(talk: Talk, tmp_path: pathlib.Path) -> None:
    scripted = Scripted("touch made", "touch made")
    talk(scripted, "make it", "make it again")
    assert not (tmp_path / "made").exists()
    assert talk(Scripted("echo out; touch made"), "make it", "/run") == ("echo out; touch made\nout\n", "exit code 0\n")
    assert (tmp_path / "made").exists()


def test_a_failure_offers_its_repair(backend: Backend, talk: Talk, tmp_path: pathlib.Path) -> None:
    out, err = talk(backend, "fail loudly", "/run", "/repair", "/run", "/repair")
    assert out == "cat ./missing\ntouch ./missing\n"
    assert err.splitlines()[-4:] == [
        *err.splitlines()[:1],
        "exit code 1; /repair asks for another command",
        "exit code 0",
        "nothing has failed; /run a command first",
    ]
    assert (tmp_path / "missing").exists()


def test_the_repair_is_asked_for_in_the_words_of_training(talk: Talk) -> None:
    scripted = Scripted("no-such-program x", "ls")
    talk(scripted, "do it", "/run", "/repair")
    assert scripted.asked[1][3].splitlines()[:2] == ["The command failed:", "$ no-such-program x"]
    assert "exit code 127\n" in scripted.asked[1][3] and "not found" in scripted.asked[1][3]


@pytest.mark.parametrize(("typed", "runs"), [("yes", True), ("y", False), ("", False), ("YES", False)])
def test_what_is_asked_about_runs_after_yes_alone(talk: Talk, tmp_path: pathlib.Path, typed: str, runs: bool) -> None:
    command = "touch made; $UNKNOWN_PROGRAM"  # which program runs is only known when it runs
    out, err = talk(Scripted(command), "do it", "/run", typed)
    assert out == f"{command}\n"
    assert err.count("Look at this before you run it") == 2
    assert (tmp_path / "made").exists() is runs
    assert err.endswith("exit code 0\n" if runs else "not run\n")


def test_what_is_refused_is_a_comment_and_never_runs(talk: Talk, tmp_path: pathlib.Path) -> None:
    command = "touch made; rm -rf / --no-preserve-root --help"
    out, err = talk(Scripted(command, "ls"), "do it", "/run", "yes")
    assert out.splitlines()[0] == f"# {command}"
    assert "Do not run this: " in err and "not run: " in err
    assert not (tmp_path / "made").exists()


def test_the_pipe_is_no_input_of_a_command(talk: Talk) -> None:
    assert talk(Scripted("cat", "ls"), "do it", "/run", "list")[0] == "cat\nls\n"


def test_a_program_left_in_the_background_holds_nothing_up(talk: Talk) -> None:
    start = time.monotonic()
    talk(Scripted("sleep 20 & echo $! > pid"), "do it", "/run")
    assert time.monotonic() - start < 10
    os.kill(int(pathlib.Path("pid").read_text()), signal.SIGTERM)


def test_what_would_move_the_cursor_is_not_shown(talk: Talk) -> None:
    out, _ = talk(Scripted("echo a \x1b[2K\rb"), "do it")
    assert "\x1b" not in out and "\r" not in out


def test_a_path_begins_a_request_and_a_single_word_a_command(talk: Talk) -> None:
    scripted = Scripted("df -h /var")
    out, err = talk(scripted, "/var is full, show it", "/what")
    assert out == "df -h /var\n" and "/explain" in err


def test_commands_without_something_to_work_on_say_so(talk: Talk) -> None:
    out, err = talk(Scripted("", "ls"), "/run", "/explain", "/repair", "do it", "do it", "/new", "/run")
    assert out == "ls\n"
    assert err.splitlines() == [
        "there is no command yet; ask for one",
        "there is no command yet; ask for one",
        "nothing has failed; /run a command first",
        "the model gave no command; say it in other words",
        "there is no command yet; ask for one",
    ]


def test_the_oldest_turns_go_when_the_window_is_full() -> None:
    scripted = Scripted("c1", "c2", "c3", "c4", fits=5)
    chat = Chat(scripted, "linux")
    for number in (1, 2, 3):
        chat.ask(f"r{number}")
    assert scripted.asked[2] == ["Linux shell.", "r2", "c2", "r3"]


def test_a_request_that_cannot_fit_leaves_the_conversation_as_it_was(talk: Talk) -> None:
    out, err = talk(Scripted("ls", fits=1), "far too long", "list")
    assert out == "" and err.count("does not fit the model's window") == 2


def test_a_long_conversation_keeps_its_last_turns() -> None:
    scripted = Scripted(*(f"c{number}" for number in range(30)))
    chat = Chat(scripted, "linux")
    for number in range(30):
        chat.ask(f"r{number}")
    assert scripted.asked[-1][:2] == ["Linux shell.", "r21"] and len(scripted.asked[-1]) == 18


# On a terminal: a model that answers "ls" at once, and "slow" only when it is stopped.
TERMINAL = """
import time
from overseer_training.serving.backends import Answer
from overseer_training.serving.chat import converse

class Model:
    kind = "test"
    def answer(self, messages, settings):
        text = messages[-1]["content"]
        if text == "slow":
            print("asked", flush=True)
        while text == "slow":
            time.sleep(0.01)
            if settings.should_stop():
                return Answer("", 1, 1, "cancelled")
        return Answer("echo begun; sleep 30" if text == "sleep" else "tty <&0" if text == "terminal" else "ls -d .", 1, 1, "stop")

converse(Model(), "linux")
"""


class Terminal:
    """A process on a pseudo-terminal of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.main, other = pty.openpty()
        environment = {**os.environ, "SHELL": "/bin/sh", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TERMINAL],
            stdin=other, stdout=other, stderr=other, cwd=folder, env=environment, start_new_session=True,
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(other)

    def send(self, keys: str) -> None:
        os.write(self.main, keys.encode())

    def until(self, text: str) -> str:
        """What is shown up to and with `text`."""
        seen, deadline = "", time.monotonic() + 20
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self.main], [], [], 0.1)[0]:
                seen += os.read(self.main, 1000).decode().replace("\r\n", "\n")
        return seen


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_terminal_has_a_prompt_and_its_keys_end_what_they_should(tmp_path: pathlib.Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.until("> ")
    terminal.send("list\n")
    assert "\nls -d .\n" in terminal.until("ls -d .\n> ")
    terminal.send("half a li")
    terminal.until("half a li")
    time.sleep(0.3)  # a signal that comes while readline works on a key is seen with the next key
    terminal.send("\x03")  # Ctrl-C at the prompt: another line
    terminal.until("\n> ")
    terminal.send("slow\n")
    terminal.until("asked\n")
    terminal.send("\x03")  # while it answers: that answer
    terminal.until("stopped\n> ")
    terminal.send("/run\n")
    terminal.until("exit code 0\n> ")
    terminal.send("terminal\n")
    terminal.until("<&0\n> ")
    terminal.send("/run\n")
    assert "/dev/pts/" in terminal.until("exit code 0\n> ")  # commands may ask for a password
    terminal.send("sleep\n")
    terminal.until("sleep 30\n> ")
    terminal.send("/run\n")
    terminal.until("\nbegun\n")
    time.sleep(0.3)  # a shell that has not yet started `sleep` lets the signal pass
    terminal.send("\x03")  # while a command runs: that command
    terminal.until("exit code 130; /repair asks for another command\n> ")
    terminal.send("\x04")  # Ctrl-D leaves
    assert terminal.process.wait(10) == 0
    os.close(terminal.main)
