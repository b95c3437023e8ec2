"""Calls of emulated programs in the real sandbox: the order of options does not count, and subcommands have to exist."""

from __future__ import annotations

import pytest

from overseer_training.evaluation.compare import compare
from overseer_training.evaluation.sandbox import Execution, Fixture, find_sandbox
from overseer_training.evaluation.sandbox.base import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return find_sandbox()


@pytest.fixture(scope="module")
def fixture(sandbox: Sandbox) -> Fixture:
    return sandbox.build_fixture("emulated", "echo hello > greeting.txt")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ping -c 3 -s 64 web", "ping -s 64 -c 3 web"),
        ("curl -X DELETE http://web/a", "curl http://web/a -X DELETE"),
        ("journalctl -u nginx -n 20", "journalctl -n 20 -u nginx"),
        ("journalctl -u nginx -n 20", "journalctl -n20 -u nginx"),
        ("ssh wei@web -S /tmp/socket", "ssh -S /tmp/socket wei@web"),
        ("chage -E 2027-01-01 wei", "chage wei -E 2027-01-01"),
        ("dig example.com AAAA +short", "dig +short example.com AAAA"),
        ("systemctl --type service list-units", "systemctl list-units --type=service"),
        ("apt -y install jq", "apt install -y jq"),
    ],
)
def test_calls_that_agree_print_the_same(left: str, right: str, sandbox: Sandbox, fixture: Fixture) -> None:
    reference, proposal = sandbox.run(fixture, left), sandbox.run(fixture, right)
    assert reference.calls and {call[0] for call in reference.calls + proposal.calls} == {"ok"}
    assert compare(left, reference, proposal).reason == "same files, output and calls"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ping -c 3 -s 64 web", "ping -c 64 -s 3 web"),
        ("dig +short example.com AAAA", "dig example.com AAAA"),
        ("dig example.com AAAA", "dig AAAA example.com"),
        ("date +%F; nc web 80", "date +%F; nc 80 web"),
        ("systemctl stop nginx", "systemctl start nginx"),
    ],
)
def test_calls_that_do_other_things_still_differ(left: str, right: str, sandbox: Sandbox, fixture: Fixture) -> None:
    assert not compare(left, sandbox.run(fixture, left), sandbox.run(fixture, right)).equal


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("systemctl --type service list-units", "systemctl-list-units"),
        ("systemctl -n 5 status nginx", "systemctl-status"),
        ("docker exec web top", "docker-exec"),
        ("docker --version", "docker"),
        ("systemctl", "systemctl"),
        ("curl -fsSL http://web | tr a-z A-Z", "CURL"),
    ],
)
def test_the_subcommand_is_printed_where_the_program_has_any(
    command: str, printed: str, sandbox: Sandbox, fixture: Fixture
) -> None:
    assert sandbox.run(fixture, command).stdout == f"{printed}\n"


@pytest.mark.parametrize(
    "command", ["systemctl frobnicate nginx", "brew cask install firefox", "apt -y frobnicate jq", "docker runn web"]
)
def test_a_subcommand_that_does_not_exist_is_refused(command: str, sandbox: Sandbox, fixture: Fixture) -> None:
    execution: Execution = sandbox.run(fixture, command)
    assert [call[0] for call in execution.calls] == ["refused"] and execution.exit_code == 64
    assert "unknown command" in execution.stderr
