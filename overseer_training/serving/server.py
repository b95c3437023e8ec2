"""`overseer serve`: /v1/chat/completions, /v1/models and /health for programs on this machine.

One answer is computed at a time; a few requests wait, and the rest are told to come back. An answer leaves as a whole, streamed or
not: a command cannot be judged before its end, nor taken back. Nothing that is asked or answered is logged.

Not covered: TLS (put a reverse proxy in front), several users with rights of their own.
"""

from __future__ import annotations

import contextlib
import hmac
import http.server
import ipaddress
import json
import logging
import pathlib
import select
import signal
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from overseer_training.config.machine import find_machine
from overseer_training.errors import ModelError, UsageError
from overseer_training.models.llama_file import PromptTooLongError
from overseer_training.records import Platform
from overseer_training.serving.backends import Answer, Backend, Settings, load_backend, model_name
from overseer_training.serving.completions import (
    ChatRequest,
    RequestError,
    chunks,
    completion,
    error_document,
    read_chat_request,
)
from overseer_training.serving.reply import cut_at, judge_answer

PORT = 8765
MOST_WAITING = 8  # chosen: with about a second an answer, nobody waits for longer than a person does
RETRY_SECONDS = 2
LARGEST_BODY_BYTES = 1024 * 1024
CLIENT_SECONDS = 10.0  # chosen: how long a client may take to send its request, or to take the answer
SHORTEST_TOKEN = 16  # characters
CHAT, MODELS, HEALTH = "/v1/chat/completions", "/v1/models", "/health"
METHODS = {CHAT: "POST", MODELS: "GET", HEALTH: "GET"}
logger = logging.getLogger(__name__)


class BusyError(Exception):
    """No answer now: too many wait already, or the server is about to end."""


class ClientLeftError(Exception):
    """Nobody waits for this answer any more."""


class Server(http.server.ThreadingHTTPServer):
    """Answers HTTP with one model; `close` lets the running answer finish."""

    daemon_threads = False  # so that server_close() waits for the answer that is being given
    allow_reuse_address = True

    def __init__(
        self,
        backend: Backend,
        model: str,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        token: str | None = None,
        platform: Platform = "linux",
    ) -> None:
        """Bind to `host` and `port`; port 0 takes a free one.

        Raises:
            UsageError: another machine could connect without a token, or the address cannot be had.
        """
        check_host(host, token)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot listen on {host} port {port}: {reason}; choose another --port") from error
        self.backend, self.model, self.token, self.platform = backend, model, token, platform
        self.is_local = is_loopback(host)
        self.started = int(time.time())
        self._host = host
        self._places = threading.BoundedSemaphore(1 + MOST_WAITING)
        self._turn = threading.Lock()
        self._is_ending = False

    @property
    def address(self) -> str:
        """Where clients find it, without /v1."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.server_port}"

    def answer(self, request: ChatRequest, has_left: Callable[[], bool]) -> Answer:
        """The model's answer, when it is this request's turn.

        Raises:
            BusyError: too many wait, or the server ends.
            ClientLeftError: `has_left` turned True.
            PromptTooLongError, ModelError: see `Backend.answer`.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError
        try:
            with self._turn:
                if self._is_ending:
                    raise BusyError
                if has_left():
                    raise ClientLeftError
                settings = Settings(request.max_tokens, request.temperature, request.top_p, request.seed, has_left)
                answer = self.backend.answer(request.messages, settings)
        finally:
            self._places.release()
        if answer.ending == "cancelled":
            raise ClientLeftError
        return cut_at(answer, request.stops)

    def close(self) -> None:
        """Take no more requests, send away those that wait, and return when the running answer was given."""
        self._is_ending = True
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no failure of the server; anything else is, and its request is not logged with it."""
        logger.debug("a connection broke", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request; each has a connection of its own, so that an end never waits for an idle client."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "overseer", ""
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        if not self._is_welcome("GET"):
            return
        path = self._path
        if path == HEALTH:
            self._send(200, {"status": "ok", "model": self.server.model, "backend": self.server.backend.kind})
        elif path == MODELS:
            entry = {"id": self.server.model, "object": "model", "created": self.server.started, "owned_by": "overseer"}
            self._send(200, {"object": "list", "data": [entry]})

    def do_POST(self) -> None:
        if not self._is_welcome("POST"):
            return
        try:
            request = read_chat_request(self._body(), self.server.platform)
            answer = self.server.answer(request, self._has_left)
        except RequestError as error:
            self._refuse(400, str(error), error.parameter)
        except PromptTooLongError as error:
            self._refuse(400, str(error), "messages", "context_length_exceeded")
        except BusyError:
            message = "busy with other requests; try again in a moment"
            self._send(
                503, error_document(message, "server_error", code="overloaded"), {"Retry-After": str(RETRY_SECONDS)}
            )
        except (ModelError, RuntimeError) as error:  # torch raises the second, out of memory for one
            logger.error("no answer: %s", error)
            self._send(500, error_document("the model could not answer", "server_error"))
        except ClientLeftError:
            pass
        except TimeoutError:
            self._refuse(408, "the body did not come in time")
        else:
            self._give(request, answer)

    def _give(self, request: ChatRequest, answer: Answer) -> None:
        reply = judge_answer(answer)
        opening = (f"chatcmpl-{uuid.uuid4().hex}", self.server.model, int(time.time()), reply)
        if not request.is_streamed:
            self._send(200, completion(*opening))
            return
        lines = [json.dumps(chunk) for chunk in chunks(*opening, wants_usage=request.wants_usage)]
        content = "".join(f"data: {line}\n\n" for line in (*lines, "[DONE]"))
        self._write(200, content.encode(), "text/event-stream", {"Cache-Control": "no-store"})

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/")

    def _is_welcome(self, method: str) -> bool:
        """Whether the request may be answered; where not, it has been told."""
        path = self._path
        if self.server.is_local and not _names_this_machine(self.headers.get("Host", "")):
            # A web page that let its own name point here must not read answers through its visitor's browser.
            self._refuse(403, "the Host header names another machine", code="wrong_host")
        elif path not in METHODS:
            self._refuse(404, f"there is nothing here; there are {', '.join(METHODS)}", code="not_found")
        elif METHODS[path] != method:
            self._refuse(405, f"{path} takes {METHODS[path]}", code="method_not_allowed")
        elif path != HEALTH and not self._has_token():
            self._refuse(401, "a valid token is needed: Authorization: Bearer TOKEN", code="invalid_api_key")
        elif method == "POST" and self.headers.get_content_type() != "application/json":
            # Any web page may send other types here without asking.
            self._refuse(415, "the request needs Content-Type: application/json")
        else:
            return True
        return False

    def _has_token(self) -> bool:
        if self.server.token is None:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self.server.token}".encode())

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RequestError("the request needs a Content-Length")
        if int(length) > LARGEST_BODY_BYTES:
            raise RequestError(f"the request is larger than {LARGEST_BODY_BYTES} bytes")
        return self.rfile.read(int(length))

    def _has_left(self) -> bool:
        """Whether the client closed the connection while it waited."""
        try:
            return bool(select.select([self.connection], [], [], 0)[0]) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _refuse(self, status: int, message: str, parameter: str | None = None, code: str | None = None) -> None:
        self._send(status, error_document(message, "invalid_request_error", parameter, code))

    def _send(self, status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._write(status, json.dumps(document).encode(), "application/json", headers or {})

    def _write(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        standard = {"Content-Type": kind, "Content-Length": str(len(content)), "Connection": "close"}
        for name, value in {**standard, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (a method that does not exist, a broken request line) in the same form as the rest."""
        self._refuse(int(code), message or self.responses.get(code, ("bad request", ""))[0])

    def log_message(self, format: str, *arguments: Any) -> None:
        """No access log: request lines are nobody's business."""


def serve(
    folder: pathlib.Path,
    *,
    host: str,
    port: int,
    token_file: pathlib.Path | None,
    say: Callable[[str], None],
) -> None:
    """Answer until SIGINT or SIGTERM, then finish the running answer; a second signal ends at once.

    Args:
        say: is told the address when the server is ready, and of the end.

    Raises:
        UsageError: the address or the token cannot be used.
        ModelError: the folder is not a model.
    """
    token = read_token(token_file) if token_file is not None else None
    check_host(host, token)
    platform: Platform = "macos" if find_machine().system == "macOS" else "linux"
    with _first_signal() as is_asked:
        server = Server(load_backend(folder), model_name(folder), host=host, port=port, token=token, platform=platform)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        say(f"{server.model} ({server.backend.kind}) answers at {server.address}/v1; Ctrl-C ends it")
        if not server.is_local:
            say(
                "note: the connection is not encrypted; put a reverse proxy with TLS before it where others share the network"
            )
        is_asked.wait()
        say("ending after the running answer; Ctrl-C again ends now")
        server.close()
        thread.join()


def check_host(host: str, token: str | None) -> None:
    """Raise UsageError if another machine could connect without a token."""
    if token is None and not is_loopback(host):
        raise UsageError(f"--host {host} lets other machines in; give --token-file with a token that they must send")


def read_token(path: pathlib.Path) -> str:
    """The token in a file that nobody but its owner can read.

    Raises:
        UsageError: others can read it, or it holds no token.
    """
    try:
        mode = path.stat().st_mode
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"--token-file {path} can be read by others; run: chmod 600 {path}")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"--token-file {path} holds no token of {SHORTEST_TOKEN} characters or more; make one with: openssl rand -hex 32"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`; no name is looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_this_machine(header: str) -> bool:
    host = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return is_loopback(host.strip("[]"))


@contextlib.contextmanager
def _first_signal() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; from then on signals do what they usually do."""
    is_asked = threading.Event()
    earlier: dict[signal.Signals, Any] = {}

    def note(number: int, _: Any) -> None:
        is_asked.set()
        for each in earlier:
            signal.signal(each, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        earlier[number] = signal.signal(number, note)
    try:
        yield is_asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
