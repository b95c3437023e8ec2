"""What the policy allows: local by default, denied when broken, and each user's own data only."""

from __future__ import annotations

import os
import pathlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer_training.errors import UsageError
from overseer_training.guards import policy as policies
from overseer_training.guards.policy import (
    ACTIONS,
    SEND,
    Action,
    decide,
    explain,
    load_policy,
    may_send,
    parse_policy,
    require,
    show,
)
from overseer_training.guards.resources import SENSITIVITIES, Endpoint, current_user, describe_data, describe_endpoint

ME = current_user()
HERE = Endpoint("localhost", ("127.0.0.1",), True)
AWAY = Endpoint("teacher.example", ("192.0.2.1",), False)
PERMIT_ALL = "permit (principal, action, resource);"


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("OVERSEER_CONFIG", str(tmp_path))
    return tmp_path


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)


@pytest.mark.parametrize("source", SENSITIVITIES)
def test_only_public_texts_may_leave_this_machine(source: str) -> None:
    data = describe_data(source)
    assert decide(ME, SEND, data, AWAY).allowed is (source in ("corpus", "tldr"))
    assert decide(ME, SEND, data, HERE).allowed
    assert all(decide(ME, action, data).allowed for action in ACTIONS if action != SEND)


@pytest.mark.parametrize("action", ACTIONS)
def test_nobody_uses_the_data_of_somebody_else(action: Action) -> None:
    theirs = describe_data("history", "bash", owner="somebody-else")
    decision = decide(ME, action, theirs, HERE if action == SEND else None)
    assert not decision.allowed and decision.reasons == (policies.NO_RULE,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permit (principal, action, resource);\n\n\npermit (principal, action resource);", "line 4: unexpected token"),
        ("permit (principal, action, resource)", "line 1"),
        ('// ;\n@id("a;b")\npermit (principal, action, resource);\nforbid (;', "line 4"),
        (f"{PERMIT_ALL}\nforbid (principal, action, resource) when {{ resource.sensitivty == 1 }};", "line 2: attribute `sensitivty`"),
        (f'{PERMIT_ALL}\nforbid (principal, action, resource in Source::"histroy");', "histroy"),
        (f'{PERMIT_ALL}\nforbid (principal, action == Action::"sned-to-endpoint", resource);', "sned-to-endpoint"),
        (f'{PERMIT_ALL}\nforbid (principal, action, resource) when {{ resource.sensitivity == "confidential" }};', "line 2"),
        (f"{PERMIT_ALL}\nforbid (principal == ?principal, action, resource);", "line 2: ?principal"),
    ],
)  # fmt: skip
def test_a_broken_policy_denies_everything_and_says_where(folder: pathlib.Path, text: str, says: str) -> None:
    write(folder / "policy.cedar", text)
    policy = load_policy()
    assert says in policy.problem and "\n" not in policy.problem and str(folder / "policy.cedar") in policy.problem
    for action in ACTIONS:
        assert not decide(ME, action, describe_data("corpus"), HERE if action == SEND else None, policy).allowed
    with pytest.raises(UsageError, match="everything is denied") as caught:
        require("read", describe_data("corpus"))
    assert "\n" not in str(caught.value)
    assert show(policy) == [f"everything is denied: {policy.problem}"] and policies.check(policy) == [policy.problem]


@pytest.mark.parametrize(
    "how", ["bytes", "link", "writable", "writable folder", "broken addition", "folder in its place"]
)
def test_a_policy_that_cannot_be_trusted_denies_everything(folder: pathlib.Path, how: str) -> None:
    path = folder / "policy.cedar"
    write(path, PERMIT_ALL)
    if how == "bytes":
        path.write_bytes(b"\xff\xfe")
    elif how == "link":
        path.unlink()
        path.symlink_to(folder / "nowhere")
    elif how == "writable":
        path.chmod(0o666)
    elif how == "writable folder":
        folder.chmod(0o777)
    elif how == "broken addition":
        write(folder / "policy.d/x.cedar", "forbid (")
    else:
        path.unlink()
        (folder / "policy.d/a.cedar").mkdir(parents=True)
    assert not decide(ME, "read", describe_data("corpus")).allowed


def test_a_rule_that_fails_while_it_is_evaluated_denies() -> None:
    failing = "forbid (principal, action, resource) when { 9223372036854775807 + 1 == 0 };"
    policy = parse_policy({"x": f"{PERMIT_ALL}\n{failing}"})
    assert policy.problem == ""
    decision = decide(ME, "read", describe_data("corpus"), policy=policy)
    assert not decision.allowed and "overflow" in decision.reasons[0]


def test_own_rules_replace_the_packaged_ones_or_add_to_them(folder: pathlib.Path) -> None:
    manual, history = describe_data("manual"), describe_data("history")
    write(folder / "policy.d/teacher.cedar", PERMIT_ALL)
    assert decide(ME, SEND, manual, AWAY).allowed
    assert not decide(ME, SEND, history, AWAY).allowed  # what is forbidden stays forbidden
    write(folder / "policy.cedar", 'permit (principal, action == Action::"read", resource);')
    (folder / "policy.d/teacher.cedar").unlink()
    assert decide(ME, "read", manual).allowed and not decide(ME, "train", manual).allowed
    other = folder / "other.cedar"
    write(other, "")
    assert not decide(ME, "read", manual, policy=load_policy(files=(other,))).allowed


def test_sending_needs_an_endpoint_and_nothing_else_has_one() -> None:
    everything = parse_policy({"x": PERMIT_ALL})
    for decision in (
        decide(ME, SEND, describe_data("corpus"), None, everything),
        decide(ME, "read", describe_data("corpus"), HERE, everything),
    ):
        assert not decision.allowed and "sending needs an endpoint" in decision.reasons[0]
    assert not decide(ME, "sing", describe_data("corpus"), None, everything).allowed  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_the_name_of_a_user_is_never_read_as_a_rule(name: str) -> None:
    data = describe_data("history", owner="owner")
    assert decide(name, "read", data, policy=parse_policy({"x": policies._packaged("default.cedar")})).allowed is (
        name == "owner"
    )


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='permitforbd (),;"\\/\n{}=.@?:', max_size=60))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    policy = parse_policy({"x": text})
    assert policy.problem or "permit" in text or not decide(ME, "read", describe_data("corpus"), policy=policy).allowed


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:11434", True), ("http://localhost/v1", True), ("http://[::1]:8080", True), ("http://127.9.9.9", True),
        ("http://[::ffff:127.0.0.1]", True), ("http://[::ffff:192.0.2.1]", False), ("https://192.0.2.1", False), ("http://10.0.0.1", False),
        ("http://127.0.0.1@192.0.2.1/", False), ("http://0.0.0.0", False), ("http://169.254.1.1", False),
        ("http://localhost.nowhere.invalid", False), ("http://127.0.0.1.nowhere.invalid", False),
    ],
)  # fmt: skip
def test_an_endpoint_is_this_machine_only_by_its_addresses(url: str, expected: bool) -> None:
    assert describe_endpoint(url).is_loopback is expected


def test_a_name_with_one_address_elsewhere_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, 0, 0, "", (address, 0)) for address in ("127.0.0.1", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: both)
    endpoint = describe_endpoint("http://both.example")
    assert endpoint.addresses == ("127.0.0.1", "192.0.2.1") and not endpoint.is_loopback


@pytest.mark.parametrize("url", ["localhost:80", "file:///etc/passwd", "http://", "http://[", "http://a:99999"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="looks like http"):
        describe_endpoint(url)


def test_people_see_the_rules_and_the_reasons() -> None:
    shown = show(load_policy())
    assert any("confidential-stays" in line for line in shown)
    row = next(line for line in shown if line.startswith("// history"))
    assert row.split()[2:] == ["yes"] * 6 + ["no"]
    said = explain(SEND, describe_data("history", "bash"), AWAY)
    assert said[0] == f"denied: {ME}, send-to-endpoint, history/bash"
    assert "another machine (192.0.2.1)" in said[2]
    assert "never leave this machine (default.cedar line" in said[3]
    assert explain("read", describe_data("corpus"))[0].startswith("allowed")


def test_a_host_is_enough_to_ask_whether_a_source_may_be_sent() -> None:
    asked = [
        may_send(describe_data(source), host) for source in ("history", "corpus") for host in ("::1", "2001:db8::1")
    ]
    assert asked == [True, False, True, True]


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown source 'diary'"):
        describe_data("diary")


def test_a_denial_is_one_line_with_the_host() -> None:
    with pytest.raises(UsageError, match=r"send-to-endpoint \(teacher\.example\) with telemetry") as caught:
        require(SEND, describe_data("telemetry"), AWAY)
    assert "\n" not in str(caught.value)
    assert require("train", describe_data("telemetry")).allowed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_policy_of_another_user_denies_everything(folder: pathlib.Path) -> None:
    write(folder / "policy.cedar", PERMIT_ALL)
    os.chown(folder / "policy.cedar", 65534, -1)
    assert "belongs to another user" in load_policy().problem
