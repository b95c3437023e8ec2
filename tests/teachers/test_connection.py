"""What leaves this machine: nothing, unless the policy allows the host; and what each kind of failure says."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback.teachers import FakeServer

from overseer_training.errors import UsageError
from overseer_training.teachers.connection import host_of, is_loopback
from overseer_training.teachers.find import open_teacher
from overseer_training.teachers.gemini import GeminiTeacher
from overseer_training.teachers.keys import ApiKey
from overseer_training.teachers.ollama import OllamaTeacher, find_address
from overseer_training.teachers.openai_compatible import OpenAICompatibleTeacher
from overseer_training.teachers.protocol import Teacher, TeacherError

from .conftest import KEY, KINDS, MODEL

MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "say it"}]
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def complete(teacher: Teacher) -> str:
    return teacher.complete(MESSAGES, SCHEMA, max_tokens=20, temperature=0.5, seed=3).text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("LOCALHOST.", True),
        ("localhost.example.org", False), ("127.0.0.1.example.org", False), ("10.0.0.1", False), ("0x7f000001", False), ("", False),
    ],
)  # fmt: skip
def test_this_machine_is_known_by_its_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@given(st.ip_addresses())
def test_an_address_is_loopback_only_inside_the_loopback_networks(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    networks = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert is_loopback(str(address)) == any(address in network for network in networks)


@pytest.mark.parametrize(
    "make",
    [
        lambda allow: OllamaTeacher(MODEL, "http://192.0.2.1:11434", allow=allow),
        lambda allow: OpenAICompatibleTeacher("http://192.0.2.1:8000/v1", MODEL, allow=allow),
        lambda allow: GeminiTeacher(ApiKey(KEY), address="https://192.0.2.1", allow=allow),
    ],
    ids=KINDS,
)
def test_a_remote_teacher_is_refused_unless_the_policy_allows_its_host(
    make: Callable[[Callable[[str], bool]], Teacher],
) -> None:
    asked: list[str] = []

    def refuse(host: str) -> bool:
        asked.append(host)
        return False

    with pytest.raises(TeacherError, match=r"192\.0\.2\.1, which the policy does not allow"):
        make(refuse)
    assert asked == ["192.0.2.1"]


def test_an_allowed_remote_teacher_is_not_local() -> None:
    teacher = OpenAICompatibleTeacher("http://192.0.2.1:8000", MODEL, allow=lambda host: host == "192.0.2.1")
    assert not teacher.is_local


@pytest.mark.parametrize("name", ["big:120b-cloud", "big:cloud", "renamed"])
def test_a_cloud_model_of_a_local_ollama_is_remote(server: FakeServer, name: str) -> None:
    server.model_bytes = {name: 384 if name == "renamed" else 500_000_000}
    with pytest.raises(TeacherError, match=r"ollama\.com, which the policy does not allow"):
        OllamaTeacher(name, server.address)
    assert not OllamaTeacher(name, server.address, allow=lambda host: host == "ollama.com").is_local


def test_a_proxy_never_sees_requests_to_this_machine(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://192.0.2.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    server.answer = lambda text: "direct"
    assert complete(OllamaTeacher(MODEL, server.address, timeout_seconds=5)) == "direct"
    assert complete(OpenAICompatibleTeacher(server.address, timeout_seconds=5)) == "direct"
    assert complete(GeminiTeacher(ApiKey(KEY), MODEL, server.address, timeout_seconds=5)) == "direct"


@pytest.mark.parametrize("kind", KINDS)
def test_redirects_are_not_followed(kind: str, server: FakeServer, teacher_of: Callable[[str], Teacher]) -> None:
    teacher = teacher_of(kind)
    server.faults = [307]
    server.headers_of_faults = {"Location": f"{server.address}/elsewhere"}
    with pytest.raises(TeacherError) as caught:
        complete(teacher)
    assert "redirects elsewhere" in str(caught.value) and not caught.value.is_temporary
    assert server.chats == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_client_sends_what_was_asked_and_reads_the_answer(
    kind: str, server: FakeServer, teacher_of: Callable[[str], Teacher]
) -> None:
    server.answer = lambda text: f'{{"command": "echo {text}"}}'
    teacher = teacher_of(kind)
    reply = teacher.complete(MESSAGES, SCHEMA, max_tokens=20, temperature=0.5, seed=3)
    assert (reply.text, reply.prompt_tokens, reply.reply_tokens) == ('{"command": "echo say it"}', 7, 5)
    assert teacher.is_local and teacher.list_models() == [MODEL]
    sent = server.chats[0]
    settings = {
        "ollama": lambda: (sent["format"], sent["options"]["num_predict"], sent["options"]["temperature"], sent["options"]["seed"]),
        "openai": lambda: (
            sent["response_format"]["json_schema"]["schema"], sent["max_tokens"], sent["temperature"], sent["seed"],
        ),
        "gemini": lambda: tuple(
            sent["generationConfig"][name] for name in ("responseJsonSchema", "maxOutputTokens", "temperature", "seed")
        ),
    }[kind]()  # fmt: skip
    assert settings == (SCHEMA, 20, 0.5, 3)
    assert "be brief" in str(sent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "is_temporary", "says"),
    [
        (429, True, "answered 429: the server's words"),
        (500, True, "answered 500: the server's words"),
        (503, True, "answered 503"),
        (401, False, "valid key"),
        (404, False, "check the model's name"),
        ("malformed", True, "right kind of server"),
        ("shapeless", True, "right kind of server"),
        ("slow", True, "did not answer in time"),
        ("cut", True, "broke off"),
    ],
)
def test_failures_are_one_line_and_say_whether_to_try_again(
    kind: str, fault: int | str, is_temporary: bool, says: str,
    server: FakeServer, teacher_of: Callable[[str], Teacher],
) -> None:  # fmt: skip
    teacher = teacher_of(kind)
    server.faults = [fault]
    with pytest.raises(TeacherError) as caught:
        complete(teacher)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.is_temporary is is_temporary
    assert complete(teacher) == "fine"  # the client can be used again


@pytest.mark.parametrize("kind", ["openai", "gemini"])
def test_the_pause_that_a_server_asks_for_is_known(
    kind: str, server: FakeServer, teacher_of: Callable[[str], Teacher]
) -> None:
    teacher = teacher_of(kind)
    server.faults, server.headers_of_faults = [429], {"Retry-After": "7"}
    with pytest.raises(TeacherError) as caught:
        complete(teacher)
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_is_too_long_concerns_only_itself(
    kind: str, server: FakeServer, teacher_of: Callable[[str], Teacher]
) -> None:
    teacher = teacher_of(kind)
    server.faults = [413]
    with pytest.raises(TeacherError) as caught:
        complete(teacher)
    assert caught.value.is_about_request


def test_words_of_a_server_cannot_control_the_terminal(
    server: FakeServer, teacher_of: Callable[[str], Teacher]
) -> None:
    teacher = teacher_of("openai")
    server.faults, server.words_of_faults = [500], "a\x1b[2J\nb" + "c" * 5000
    with pytest.raises(TeacherError) as caught:
        complete(teacher)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("http://127.0.0.1:9#m", TeacherError, "cannot be reached"),
        ("gemini:gemini-x", UsageError, "GEMINI_API_KEY"),
        ("gemini-x", UsageError, "GEMINI_API_KEY"),
        ("ollama:", UsageError, "name a teacher"),
        ("http://me:secret@127.0.0.1:9", UsageError, "holds a login"),
        ("http://127.0.0.1:99999", UsageError, "cannot be read"),
        ("https://", UsageError, "is not the address"),
    ],
)
def test_a_name_that_is_no_teacher_says_so(name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        complete(open_teacher(name))
    assert "secret" not in str(caught.value)


def test_names_open_the_teacher_they_mean(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"0.0.0.0:{server.server_port}")
    server.model_bytes = {f"{MODEL}:latest": 500_000_000}
    assert open_teacher(MODEL).model == open_teacher(f"ollama:{MODEL}").model == f"{MODEL}:latest"
    assert open_teacher(f"{server.address}/v1").model == f"{MODEL}:latest"
    with pytest.raises(TeacherError, match="ollama pull other"):
        open_teacher("other")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("http://[::]:1234/", "http://127.0.0.1:1234"),
        ("[::1]", "http://[::1]:11434"),
        ("https://box.example", "https://box.example"),
        ("box.example:80", "http://box.example:80"),
    ],
)
def test_the_address_of_ollama_is_read_as_ollama_reads_it(
    given: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert find_address() == find_address(given) == address
    assert host_of(address)
