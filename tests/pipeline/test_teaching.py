"""Teachers in the main job: what they write is proved, kept with its origin, and trained on; without them the run says why."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from overseer_training import teaching
from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import find_machine
from overseer_training.config.resolve import resolve
from overseer_training.data.sources.corpus import fill, load_families
from overseer_training.evaluation.sandbox import find_sandbox
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.write import answer, read_answer, repair

SECRET = "AIza-a-key-that-nobody-may-see"


class _Server(http.server.BaseHTTPRequestHandler):
    """Completes chats as an OpenAI-compatible server does, with two wordings of the request that it is shown."""

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "tiny", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        request = re.search(r"^Request: (.*)$", said, re.MULTILINE)
        command = re.search(r"^Command: (.*)$", said, re.MULTILINE)
        if "wordings" in said:
            answer = {"wordings": [f"would you kindly do this: {request[1]}", f"{request[1]}, at once if you can"]}  # type: ignore[index]
        elif "next" in said:
            answer = {"pairs": [{"request": "and now remove all of it", "command": "rm -rf /"}]}
        elif "one sentence" in said:
            answer = {"explanation": f"Runs {command[1].split()[0]}."}  # type: ignore[index]
        else:
            answer = {"command": "true"}
        self._send({
            "id": "1", "object": "chat.completion", "created": 0, "model": "tiny",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": json.dumps(answer)}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        })  # fmt: skip

    def _send(self, document: object) -> None:
        text = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


def test_what_a_teacher_writes_is_proved_and_trained_on(workplace: Any, server: str) -> None:
    code, output, errors = workplace.train_small(
        "--max-steps", "1", "--test-tasks", "0",
        "--run-name", "taught", "--no-export", "--variant-share", "0",
        "--llm-model", f"{server}#tiny", "--teacher-requests", "12", "--llm-api-key", SECRET,
    )  # fmt: skip
    assert code == 0, output + errors
    run = workplace.runs / "taught"
    counts = json.loads((run / "data" / "taught" / "counts.json").read_text())
    assert counts["kept"] > 0
    rows = [json.loads(line) for line in (run / "data" / "taught" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == counts["kept"] and all(row["provenance"]["teachers"] for row in rows)
    assert not any("rm -rf" in turn["content"] for row in rows for turn in row["turns"])
    trained = (run / "data" / "train.jsonl").read_text()
    assert "would you kindly do this" in trained
    manifest = json.loads((run / "data" / "manifest.json").read_text())
    assert manifest["sources"]["teacher"]["rows"] > 0
    assert SECRET not in output + errors
    for path in run.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_teacher_that_is_not_there_ends_the_run_in_one_line(workplace: Any) -> None:
    code, _, errors = workplace.train_small(
        "--max-steps", "1", "--llm-model", "http://127.0.0.1:9#none", "--teacher-requests", "2"
    )
    assert code == 8
    assert len(errors.strip().splitlines()) == 1 and "cannot be reached" in errors


def test_an_answer_that_does_something_else_than_the_corpus_does_is_refused() -> None:
    """Three weak teachers agreed on `scp -r`: an emulated program has no usage error, so that was an effect."""
    family = next(family for family in load_families() if family.name == "scp-remote-pattern")
    right = fill(family.command, family.slots[0])
    prover = teaching.Prover(find_sandbox(), [family])
    asked = answer("a", family.name, "fetch them", reference=right)

    def refusal(command: str) -> str | None:
        return prover.check(read_answer(asked, json.dumps({"command": command}))[0])

    assert prover.effect_of(asked, "scp -r") is not None
    assert (refusal(right), bool(refusal("scp -r"))) == (None, True)


def test_a_command_that_leaves_out_what_was_asked_is_refused_where_it_does_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file of few lines let `cat` teach "the last 5 lines"."""
    family = next(family for family in load_families() if family.split == "train" and family.command_for("linux"))
    prover = teaching.Prover(find_sandbox(), [family])
    monkeypatch.setitem(prover._scripts, family.fixture, ("seq 3 > server.log", ""))
    monkeypatch.setitem(prover._repaired, "tial -n 5 server.log", "tail -n 5 server.log")
    asked = answer("a", family.name, "show the last 5 lines of server.log", reference="tail -n 5 server.log")
    failed = repair("b", family.name, "tial -n 5 server.log", 127, "bash: tial: command not found")

    for assignment in (asked, failed):
        refusals = {
            command: prover.check(read_answer(assignment, json.dumps({"command": command}))[0])
            for command in ("tail -n 5 server.log", "tail -5 server.log", "tail -n 50 server.log", "cat server.log")
        }
        assert list(refusals.values()) == [None, None, "leaves out 5", "leaves out 5"]
        assert prover.effect_of(assignment, "cat server.log") == prover.effect_of(assignment, "tail -n 5 server.log")


def test_the_key_of_gemini_is_sent_to_no_other_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, ApiKey | None] = {}

    class Teacher:
        def __init__(self, name: str, *, key: ApiKey | None, allow: object) -> None:
            given[name] = key

        def list_models(self) -> list[str]:
            return []

    monkeypatch.setattr(teaching, "open_teacher", Teacher)
    key = ApiKey(SECRET)
    for names, holders in (
        ("http://127.0.0.1:9#m,gemini:m", ["gemini:m"]),
        ("http://127.0.0.1:9#m", ["http://127.0.0.1:9#m"]),
    ):
        given.clear()
        flags = build_parser().parse_args(["--llm-model", names])
        plan = resolve(flags, load_configuration(), find_machine(), for_run=True)
        teaching._open(plan, key, lambda message: None)
        assert [name for name, held in given.items() if held is key] == holders
