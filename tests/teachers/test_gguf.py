"""Real weights in a real llama.cpp: in this process, and as a server."""

from __future__ import annotations

import json
import pathlib

import httpx
import pytest

from overseer_training.errors import ModelError
from overseer_training.export.llama_server import LlamaServer
from overseer_training.teachers.find import open_teacher
from overseer_training.teachers.gguf import GgufTeacher
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher
from overseer_training.teachers.protocol import Teacher, TeacherError

MESSAGES = [{"role": "user", "content": "Which command lists files? Answer with JSON."}]
CHOICE = {
    "type": "object",
    "properties": {"command": {"enum": ["ls", "df"]}},
    "required": ["command"],
    "additionalProperties": False,
}  # few tokens, whatever the model says


def check_answers(teacher: Teacher, context_tokens: int) -> None:
    """The schema is kept, tokens are counted, and what is too long is refused."""
    reply = teacher.complete(MESSAGES, CHOICE, max_tokens=30, temperature=0.8, seed=5)
    assert json.loads(reply.text)["command"] in ("ls", "df")
    assert 0 < reply.reply_tokens <= 30 and len(MESSAGES[0]["content"].split()) < reply.prompt_tokens < 100
    too_long = [{"role": "user", "content": "word " * 2 * context_tokens}]
    with pytest.raises(TeacherError, match="exceeds the available context") as caught:
        teacher.complete(too_long, max_tokens=5, temperature=0, seed=0)
    assert caught.value.is_about_request and not caught.value.is_temporary


def test_a_gguf_file_answers_in_this_process_and_opens_its_port_to_nobody(gguf_path: pathlib.Path) -> None:
    teacher = GgufTeacher(gguf_path, threads=1, context_tokens=256)
    check_answers(teacher, 256)
    assert teacher.is_local and teacher.list_models() == [teacher.model] == [gguf_path.name]
    body = {"messages": MESSAGES, "max_tokens": 1}
    with httpx.Client(trust_env=False) as client:
        address = teacher._server.listening_address
        assert client.post(f"{address}/v1/chat/completions", json=body).status_code == 401
        assert client.post(f"{address}/completion", json={"prompt": "x", "n_predict": 1}).status_code == 401


def test_a_llama_cpp_server_is_an_openai_compatible_teacher(running_llama: LlamaServer) -> None:
    teacher = OpenAICompatibleTeacher(f"{running_llama.address}/v1", key=ApiKey(running_llama.key))
    assert teacher.list_models() == [teacher.model]
    check_answers(teacher, 2048)


def test_a_file_that_is_no_gguf_says_so(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(ModelError, match="cannot be read"):
        open_teacher(str(path))
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="not a GGUF file"):
        open_teacher(str(path))
    path.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError, match=r"llama\.cpp cannot load"):
        open_teacher(str(path))
