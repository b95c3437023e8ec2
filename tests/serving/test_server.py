"""The server as clients meet it: over real connections, with a model that has learned its answers."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import httpx
import pytest

from overseer_training.errors import ModelError, UsageError
from overseer_training.serving.backends import Answer, Backend
from overseer_training.serving.server import CHAT, MOST_WAITING, Server, read_token
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher

from .conftest import Gated

TOKEN = "a-token-of-the-test-0123"
Start = Callable[..., Server]


def ask(server: Server, request: str = "list the files in src", **fields: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": request}], **fields}
    return httpx.post(server.address + CHAT, json=body, trust_env=False, timeout=30)


def test_the_projects_own_client_gets_the_command(backend: Backend, serve: Start) -> None:
    client = OpenAICompatibleTeacher(serve(backend).address)
    assert client.model == "tiny"
    messages = [{"role": "user", "content": "list the files in src"}]
    found = client.complete(messages, max_tokens=20, temperature=0, seed=1)
    assert found.text == "ls src"
    assert found.prompt_tokens > 10 and found.reply_tokens >= 3


def test_an_answer_has_openais_form_and_the_verdict(backend: Backend, serve: Start) -> None:
    document = ask(serve(backend), model="whatever").json()
    assert document["object"] == "chat.completion" and document["model"] == "tiny"
    assert document["choices"][0]["message"] == {"role": "assistant", "content": "ls src"}
    assert document["choices"][0]["finish_reason"] == "stop"
    usage = document["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert document["overseer"] == {"decision": "allow", "reason": ""}


def test_a_stream_gives_the_same_and_ends_as_clients_expect(backend: Backend, serve: Start) -> None:
    server = serve(backend)
    response = ask(server, stream=True, stream_options={"include_usage": True})
    assert response.headers["Content-Type"] == "text/event-stream"
    *lines, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert done == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == "ls src"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["overseer"] == {"decision": "allow", "reason": ""}
    assert chunks[-1]["usage"] == ask(server).json()["usage"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_dangerous_commands_are_marked_and_the_worst_never_leave(backend: Backend, serve: Start) -> None:
    server = serve(backend)
    asked = ask(server, "restart the machine").json()
    assert asked["choices"][0]["message"]["content"] == "reboot"
    assert asked["overseer"]["decision"] == "ask" and asked["overseer"]["reason"]
    for stream in (False, True):
        text = ask(server, "erase the whole machine", stream=stream).text
        assert "rm -rf" not in text and "# Do not run this: it erases /" in text and '"refuse"' in text


def test_a_cut_answer_says_so(backend: Backend, serve: Start) -> None:
    document = ask(serve(backend), "count the lines of notes", max_tokens=1).json()
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["overseer"]["decision"] == "ask"


def test_health_and_models_are_listed(backend: Backend, serve: Start) -> None:
    server = serve(backend)
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        assert client.get("/health").json() == {"status": "ok", "model": "tiny", "backend": "llama.cpp"}
        assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["tiny"]


@pytest.mark.parametrize(
    ("method", "path", "changes", "status"),
    [
        ("POST", CHAT, {"content": b"{"}, 400),
        ("POST", CHAT, {"content": b'{"messages": []}'}, 400),
        ("POST", CHAT, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", CHAT, {"content": b"x" * (1024 * 1024 + 1)}, 400),
        ("POST", CHAT, {"content": iter([b"{}"])}, 400),  # chunked: no Content-Length
        ("GET", CHAT, {}, 405),
        ("POST", "/v1/models", {"content": b"{}"}, 405),
        ("GET", "/v1/nothing", {}, 404),
        ("DELETE", CHAT, {}, 501),
        ("GET", "/v1/models", {"headers": {"Host": "evil.example:8765"}}, 403),
        ("POST", CHAT, {"content": b"{}", "headers": {"Host": "127.0.0.1.evil.example"}}, 403),
    ],
)
def test_what_is_wrong_gets_openais_error_form(
    backend: Backend, serve: Start, method: str, path: str, changes: dict[str, Any], status: int
) -> None:
    server = serve(backend)
    headers = {"Content-Type": "application/json", **changes.pop("headers", {})}
    response = httpx.request(method, server.address + path, headers=headers, trust_env=False, **changes)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["message"] and error["type"] == "invalid_request_error"
    assert ask(server).status_code == 200


def test_a_conversation_that_does_not_fit_is_a_clients_error(backend: Backend, serve: Start) -> None:
    response = ask(serve(backend), "x" * 9000)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_a_model_that_fails_is_a_servers_error_without_its_words(serve: Start) -> None:
    class Broken:
        kind = "broken"

        def answer(self, messages: Any, settings: Any) -> Answer:
            raise ModelError("inner words")

    response = ask(serve(Broken()))
    assert response.status_code == 500
    assert response.json()["error"] == {
        "message": "the model could not answer", "type": "server_error", "param": None, "code": None
    }  # fmt: skip


def test_a_full_queue_sends_clients_away_and_loses_none_that_wait(gated: Gated, serve: Start) -> None:
    server, too_many = serve(gated), 3
    with ThreadPoolExecutor(1 + MOST_WAITING + too_many) as pool:
        futures = [pool.submit(ask, server) for _ in range(1 + MOST_WAITING + too_many)]
        refused = [future.result() for future in itertools.islice(as_completed(futures), too_many)]
        assert [response.status_code for response in refused] == [503] * too_many
        assert all(int(response.headers["Retry-After"]) > 0 for response in refused)
        assert [future.done() for future in futures].count(True) == too_many
        for _ in range(1 + MOST_WAITING):
            gated.open()
        assert (
            sorted(future.result().status_code for future in futures) == [200] * (1 + MOST_WAITING) + [503] * too_many
        )


def test_one_answer_at_a_time(gated: Gated, serve: Start) -> None:
    server = serve(gated)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ask, server) for _ in range(2)]
        assert gated.entered.acquire(timeout=10)
        assert not gated.entered.acquire(timeout=0.3)
        gated.open()
        assert gated.entered.acquire(timeout=10)
        gated.open()
        assert [future.result().status_code for future in futures] == [200, 200]


def test_an_answer_that_nobody_waits_for_is_ended(gated: Gated, serve: Start) -> None:
    server = serve(gated)
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert gated.entered.acquire(timeout=10)
    assert gated.cancelled.acquire(timeout=10)
    gated.open()
    assert ask(server).status_code == 200


def test_closing_finishes_the_running_answer_and_sends_away_those_that_wait(gated: Gated, serve: Start) -> None:
    server = serve(gated)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, server)
        assert gated.entered.acquire(timeout=10)
        waiting = pool.submit(ask, server)
        time.sleep(0.3)
        closing = threading.Thread(target=server.close)
        closing.start()
        time.sleep(0.3)
        assert closing.is_alive()
        gated.open()
        assert running.result().json()["choices"][0]["message"]["content"] == "ls src"
        assert waiting.result().status_code == 503
        closing.join(10)
        assert not closing.is_alive()
    with pytest.raises(httpx.ConnectError):
        ask(server)


def test_nothing_that_is_asked_or_answered_is_logged(
    backend: Backend, serve: Start, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, logger="overseer_training")
    server = serve(backend)
    ask(server)
    ask(server, temperature="list")
    httpx.get(f"{server.address}/v1/models?secret=1", trust_env=False)
    assert caplog.text == "" and capfd.readouterr() == ("", "")


def test_other_machines_need_a_token(backend: Backend, serve: Start) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(UsageError, match="give --token-file"):
            Server(backend, "tiny", host=host, port=0)
    server = serve(backend, host="0.0.0.0", token=TOKEN)
    assert ask(server).status_code == 401
    url = f"http://127.0.0.1:{server.server_port}"
    for header in (f"Bearer {TOKEN}x", "Bearer", TOKEN, f"Basic {TOKEN}"):
        assert httpx.get(url + "/v1/models", headers={"Authorization": header}, trust_env=False).status_code == 401
    found = httpx.get(url + "/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False)
    assert found.status_code == 200
    assert httpx.get(url + "/health", trust_env=False).status_code == 200


def test_a_port_that_is_taken_is_one_clear_line(backend: Backend, serve: Start) -> None:
    server = serve(backend)
    with pytest.raises(UsageError, match=f"port {server.server_port}: Address already in use; choose another --port"):
        Server(backend, "tiny", port=server.server_port)
    with pytest.raises(UsageError, match="choose another --port"):
        Server(backend, "tiny", port=70000)


def test_a_token_comes_from_a_private_file_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(path)
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.write_text("short")
    with pytest.raises(UsageError, match="openssl rand"):
        read_token(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_real_server_cleanly(run_folder: pathlib.Path, number: signal.Signals) -> None:
    script = (
        "import pathlib, sys\n"
        "from overseer_training.serving.server import serve\n"
        f"serve(pathlib.Path({str(run_folder)!r}), host='127.0.0.1', port=0, token_file=None,\n"
        "      say=lambda line: print(line, flush=True))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http")).removesuffix("/v1;")
        body = {"messages": [{"role": "user", "content": "print hello"}]}
        response = httpx.post(address + CHAT, json=body, trust_env=False)
        assert response.json()["choices"][0]["message"]["content"] == "echo hello"
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
