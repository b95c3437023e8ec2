"""`overseer chat`: a conversation in the terminal, or line by line from a pipe.

A line is a request, and its answer a command on a line of its own; what is said about it goes to stderr. Nothing is run before /run,
nothing that is asked about before its owner typed yes, and nothing that is refused. Nothing of a conversation is kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

from overseer_training.errors import OverseerError
from overseer_training.guards.judge import format_verdict
from overseer_training.models.llama_file import PromptTooLongError
from overseer_training.prompts import EXPLAIN_REQUEST, REPAIR_REQUEST, with_system
from overseer_training.records import Platform, Turn
from overseer_training.serving.backends import Answer, Backend, Settings
from overseer_training.serving.reply import Reply, judge_answer

MOST_TURNS = 16  # requests and answers that are kept; chosen: dialogues that were trained on have at most 5 of each
STDERR_LINES, MOST_STDERR_CHARACTERS = (
    4,
    300,
)  # of a failed command, for its repair; as in the rows that were trained on
SHELL_PREFIX = re.compile(r"(?m)^(?:\S*/)?(\w+): line \d+: ")  # a script's; people see `bash: …`, and rows were made so
LEFT_BEHIND_SECONDS = 0.5  # chosen: a program that the command put into the background may hold stderr for days
COMMAND = re.compile(r"/[a-z]+")  # "/var is full" is a request
PROMPT = "> "
HELP = "/explain the command, /run it, /repair it when it failed, /new conversation, /quit"


class CancelledError(OverseerError):
    """The owner pressed Ctrl-C while the model answered."""


class Chat:
    """One conversation with `backend`; a failed call leaves it as it was."""

    def __init__(self, backend: Backend, platform: Platform) -> None:
        self._backend, self._platform = backend, platform
        self.new()

    def new(self) -> None:
        """Forget everything."""
        self._turns: list[Turn] = []
        self.last: Reply | None = None
        self._failure: str | None = None

    def ask(self, request: str) -> Reply:
        """The answer to `request` after all that was said.

        Raises:
            CancelledError: Ctrl-C came first.
            OverseerError: the request is too long, or the model failed.
        """
        reply = judge_answer(self._answer(request))
        self._turns += [Turn("user", request), Turn("assistant", reply.command)]
        self.last, self._failure = reply, None
        return reply

    def explain(self) -> str:
        """What the last command does; no part of the conversation.

        Raises:
            OverseerError: there is none, or as for `ask`.
        """
        self._command()
        return self._answer(EXPLAIN_REQUEST).text

    def run(self) -> int:
        """Run the last command in the owner's shell, as it is, and give its exit code.

        Its input is the terminal's, or empty where there is none, since the pipe holds requests.
        """
        command = self._command()
        exit_code, stderr = _run(command)
        failed = REPAIR_REQUEST.format(command=command, stderr=stderr, exit_code=exit_code)
        self._failure = failed if exit_code else None
        return exit_code

    def repair(self) -> Reply:
        """Another command for the one that failed.

        Raises:
            OverseerError: nothing failed, or as for `ask`.
        """
        if self._failure is None:
            raise OverseerError("nothing has failed; /run a command first")
        return self.ask(self._failure)

    def _command(self) -> str:
        if self.last is None or not self.last.command:
            raise OverseerError("there is no command yet; ask for one")
        return self.last.command

    def _answer(self, request: str) -> Answer:
        """The answer with as many of the last turns as fit, the bound and the model's window considered."""
        turns = [*self._turns[-MOST_TURNS:], Turn("user", request)]
        while True:
            try:
                with _noted_interrupt() as is_interrupted:
                    messages = with_system(turns, self._platform)
                    answer = self._backend.answer(messages, Settings(should_stop=is_interrupted.is_set))
            except PromptTooLongError:
                if len(turns) == 1:
                    raise
                del turns[:2]
            else:
                if answer.ending == "cancelled":
                    raise CancelledError("stopped")
                return answer


def converse(backend: Backend, platform: Platform) -> None:
    """Answer each line of stdin until its end or /quit; a prompt is shown only where a person sits."""
    chat = Chat(backend, platform)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        import readline  # noqa: F401 - gives input() arrow keys and a history of this conversation

        print(HELP, file=sys.stderr)
    while True:
        try:
            line = _read_line(PROMPT if is_terminal else "")
            if line is None or line.strip() == "/quit":
                break
            _act(chat, line.strip(), is_terminal)
        except OverseerError as error:
            print(error, file=sys.stderr)
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            print()


def _act(chat: Chat, line: str, is_terminal: bool) -> None:
    """Do what one line says."""
    if not COMMAND.fullmatch(line):
        if line:
            _show(chat.ask(line))
    elif line == "/explain":
        print("\n".join(f"# {each}" for each in _printable(chat.explain()).splitlines()), flush=True)
    elif line == "/run":
        _run_if_agreed(chat, is_terminal)
    elif line == "/repair":
        _show(chat.repair())
    elif line == "/new":
        chat.new()
    else:
        print(HELP, file=sys.stderr)


def _show(reply: Reply) -> None:
    if not reply.command:
        raise OverseerError("the model gave no command; say it in other words")
    opening = "# " if reply.verdict.decision == "refuse" else ""
    print(f"{opening}{_printable(reply.command)}", flush=True)
    if reply.verdict.decision != "allow":
        print(_printable(format_verdict(reply.verdict)), file=sys.stderr)


def _run_if_agreed(chat: Chat, is_terminal: bool) -> None:
    verdict = chat.last.verdict if chat.last else None
    if verdict is not None and verdict.decision == "refuse":
        raise OverseerError(f"not run: {verdict.reason}")
    if verdict is not None and verdict.decision == "ask":
        print(f"{_printable(format_verdict(verdict))} Type yes to run it.", file=sys.stderr)
        try:
            agreed = _read_line(PROMPT if is_terminal else "") or ""
        except KeyboardInterrupt:
            agreed = ""
        if agreed.strip() != "yes":
            raise OverseerError("not run")
    exit_code = chat.run()
    print(f"exit code {exit_code}" + ("; /repair asks for another command" if exit_code else ""), file=sys.stderr)


def _read_line(prompt: str) -> str | None:
    """The next line of stdin, or None at its end."""
    if not prompt:
        return sys.stdin.readline() or None
    try:
        return input(prompt)
    except EOFError:
        print()
        return None


def _run(command: str) -> tuple[int, str]:
    """(exit code, first lines of stderr) of `command`, whose output is shown as it comes; Ctrl-C is the command's alone."""
    sys.stdout.flush()
    with _noted_interrupt():
        process = subprocess.Popen(
            [os.environ.get("SHELL") or "/bin/sh", "-c", command],
            stdin=None if sys.stdin.isatty() else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        first: list[str] = []
        reader = threading.Thread(target=_pass_on, args=(process.stderr, first), daemon=True)
        reader.start()
        code = process.wait()
        reader.join(LEFT_BEHIND_SECONDS)
    message = SHELL_PREFIX.sub(r"\1: ", "\n".join(first[:STDERR_LINES]))[:MOST_STDERR_CHARACTERS]
    return code if code >= 0 else 128 - code, message


def _pass_on(stderr: IO[bytes], first: list[str]) -> None:
    """Show what comes from `stderr`, and keep its first lines."""
    with stderr:
        for line in stderr:
            text = line.decode(errors="replace")
            print(text, end="", file=sys.stderr, flush=True)
            if text.strip() and len(first) < STDERR_LINES:
                first.append(text.rstrip())


def _printable(text: str) -> str:
    """`text` without what could move the cursor or colour the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


@contextlib.contextmanager
def _noted_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets while the block runs, in place of an exception at any line."""
    is_interrupted = threading.Event()

    def note(number: int, frame: Any) -> None:
        is_interrupted.set()

    earlier = signal.signal(signal.SIGINT, note)
    try:
        yield is_interrupted
    finally:
        signal.signal(signal.SIGINT, earlier)
