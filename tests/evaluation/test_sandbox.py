"""Attacks on the real sandbox: each must end in an Execution, in bounded time, with the host as it was."""

from __future__ import annotations

import concurrent.futures
import pathlib
import subprocess
import time

import pytest

from overseer_training.errors import SandboxError
from overseer_training.evaluation.sandbox import Execution, Fixture, bubblewrap, find_sandbox
from overseer_training.evaluation.sandbox.base import Sandbox

MARKER = "31.4159"  # an unusual duration for `sleep`, by which left-over processes are found


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return find_sandbox()


@pytest.fixture(scope="module")
def fixture(sandbox: Sandbox) -> Fixture:
    return sandbox.build_fixture("attacked", "echo hello > greeting.txt\nmkdir -p deep/er\nln greeting.txt same.txt")


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(bubblewrap, "OVERHEAD_SECONDS", 4)


def left_over(marker: str) -> list[str]:
    """Command lines on the host that hold `marker`."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if marker in words:
            found.append(" ".join(words))
    return found


ATTACKS = {
    "huge sparse file": "truncate -s 1T huge; truncate -s 30M a b c d e f g h i j",
    "fifo": "mkfifo pipe; cat pipe",
    "device": "mknod disk b 259 0; mknod zero c 1 5",
    "symlinks": "ln -s / root; ln -s /dev/zero zero; ln -s loop loop; rm greeting.txt; ln -s /run/result/stdout greeting.txt",
    "hard links": "ln greeting.txt /home/user/other; ln /usr/bin/bash shell",
    "kill everything": "kill -9 -1",
    "stop everything": "kill -STOP 1 2 3; kill -TERM -1",
    "remove the results": "rm -rf /run/result",
    "results are a fifo": "cd /run/result; rm -f *; mkfifo stdout stderr exit_code processes calls",
    "results are a link": "rm -rf /run/result; ln -s /home/user /run/result",
    "forged notes": "printf 'x\\n\\nok\\n' >>/run/result/calls; echo seven >/run/result/exit_code",
    "output flood": "yes & yes >&2",
    "full result folder": "cat /dev/zero >/run/full; echo fine",
    "fork bomb": "f() { f | f & }; f",
    "memory bomb": "tail /dev/zero",
    "full disk": "for n in 1 2 3; do cat /dev/zero >/home/user/$n; cat /dev/zero >/dev/shm/$n; done",
    "many files": "mkdir many; cd many; touch {1..30000}",
    "background process": f"setsid sleep {MARKER} & nohup sleep {MARKER} >/dev/null & disown",
    "deaf to signals": f"trap '' TERM INT HUP; sleep {MARKER}; while :; do :; done",
    "remove everything": "rm -rf /* --no-preserve-root",
    "closed streams": "exec >&- 2>&- <&-; sleep 0.1",
    "odd names": "touch $'new\\nline' $'\\xff\\xfe' -- '-rf'; chmod 0 deep greeting.txt",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_in_an_execution_and_leaves_the_host_alone(
    name: str, sandbox: Sandbox, fixture: Fixture, tmp_path: pathlib.Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    tmp_path.chmod(0o777)
    canary.chmod(0o666)
    execution = sandbox.run(fixture, f"echo dead >{canary} ; {ATTACKS[name]}")
    assert isinstance(execution, Execution)
    assert canary.read_text() == "alive"
    assert left_over(MARKER) == []
    assert len(execution.stdout) <= bubblewrap.OUTPUT_LIMIT_BYTES
    assert len(execution.files) <= bubblewrap.MEMBER_LIMIT
    assert sandbox.run(fixture, "cat greeting.txt").stdout == "hello\n"


@pytest.mark.parametrize("word", ["Practice" * 100, "no-such-program"])
def test_a_word_that_is_no_program_is_told_from_one(sandbox: Sandbox, word: str) -> None:
    """A model that repeats itself gives words longer than a file may be named, which ended the evaluation."""
    assert sandbox.has_program("sed") and sandbox.has_program("systemctl")
    assert not sandbox.has_program(word)


def test_a_stopped_time_limit_runs_into_the_limit_of_the_host(sandbox: Sandbox, fixture: Fixture) -> None:
    started = time.monotonic()
    execution = sandbox.run(fixture, f"sleep {MARKER} & kill -STOP -1")
    assert execution.timed_out and execution.exit_code == 124 and execution.files == {}
    assert 4 < time.monotonic() - started < 20
    time.sleep(0.2)
    assert left_over(MARKER) == []


def test_killing_everything_spares_the_result(sandbox: Sandbox, fixture: Fixture) -> None:
    execution = sandbox.run(fixture, "echo seen; kill -9 -1; kill -9 1")
    assert (execution.stdout, execution.exit_code, execution.timed_out) == ("seen\n", 137, False)
    assert "home/user/greeting.txt" in execution.files


def test_a_command_that_takes_too_long_is_told_from_one_that_ends_with_the_same_code(
    sandbox: Sandbox, fixture: Fixture
) -> None:
    assert sandbox.run(fixture, "sleep 20").timed_out
    for command in ("exit 124", "exit 137", "timeout 0.1 sleep 5"):
        assert not sandbox.run(fixture, command).timed_out, command


def test_a_flood_keeps_its_exit_code_and_its_beginning(sandbox: Sandbox, fixture: Fixture) -> None:
    execution = sandbox.run(fixture, "head -c 40000000 /dev/zero | tr '\\0' x; exit 7")
    assert execution.exit_code == 7
    assert execution.stdout == "x" * bubblewrap.OUTPUT_LIMIT_BYTES


def test_each_command_before_has_its_own_time(sandbox: Sandbox, fixture: Fixture) -> None:
    execution = sandbox.run(fixture, "cat done", before=("echo one >done; sleep 9", "echo two >>done; sleep 9"))
    assert execution.stdout == "one\ntwo\n" and not execution.timed_out


def test_there_is_no_network_and_no_privilege(sandbox: Sandbox, fixture: Fixture) -> None:
    command = "cat /proc/net/dev | grep -c eth; (: </dev/tcp/1.1.1.1/53) 2>/dev/null || echo offline; grep CapEff /proc/self/status"
    assert sandbox.run(fixture, command).stdout == "0\noffline\nCapEff:\t0000000000000000\n"
    for forbidden in ("/usr/bin/mount -t tmpfs none /mnt", "setpriv --reuid 0 true", "chroot / true", "touch /usr/x"):
        assert sandbox.run(fixture, forbidden).exit_code != 0, forbidden


def test_secrets_of_the_host_cannot_be_read(
    sandbox: Sandbox, fixture: Fixture, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("API_KEY", "hush-31337")
    (tmp_path / "key").write_text("hush-31337")
    command = (
        f"cat /proc/*/environ /root/* /etc/shadow {tmp_path}/key /proc/1/root/root/* /proc/1/cwd/*; env; "
        "echo forged >/proc/1/fd/1; echo forged >/proc/1/fd/3"
    )
    execution = sandbox.run(fixture, command)
    assert "hush" not in execution.stdout and "forged" not in execution.stdout
    assert "home/user/greeting.txt" in execution.files
    assert sandbox.run(fixture, "find / -xdev -user 0 -readable -path '/root*'").stdout == ""


def test_parallel_runs_do_not_see_each_other(sandbox: Sandbox, fixture: Fixture) -> None:
    def run(number: int) -> str:
        if number == 0:
            return sandbox.run(fixture, "f() { f | f & }; f").stdout
        return sandbox.run(fixture, f"echo {number} >own; sleep 0.2; cat own; ls; ps -e | grep -c bash").stdout

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(run, range(5)))
    for number in range(1, 5):
        assert outputs[number].splitlines()[:2] == [str(number), "deep"]


def test_the_process_limit_counts_one_sandbox_and_not_the_user(sandbox: Sandbox, fixture: Fixture) -> None:
    command = "for n in {1..60}; do sleep 0.5 & done; jobs | wc -l"
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        outputs = [execution.stdout.strip() for execution in pool.map(sandbox.run, [fixture] * 3, [command] * 3)]
    assert outputs == ["60"] * 3


def test_a_fixture_that_fails_or_hangs_says_so(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"'broken' failed to build .*no such thing"):
        sandbox.build_fixture("broken", "echo no such thing >&2; exit 3")
    with pytest.raises(SandboxError, match=r"'slow' took longer than 1 s"):
        sandbox.build_fixture("slow", "sleep 20")


def test_links_modes_and_kinds_are_told_apart(sandbox: Sandbox, fixture: Fixture) -> None:
    files = sandbox.run(fixture, "ln -s a link; mkfifo pipe; mkdir -m 700 dir; chmod 600 same.txt").files
    assert files["home/user/link"].kind == "link" and files["home/user/link"].content == "a"
    assert files["home/user/pipe"].kind == "other"
    assert (files["home/user/dir"].kind, files["home/user/dir"].mode) == ("dir", 0o700)
    assert files["home/user/same.txt"] == files["home/user/greeting.txt"]


def test_no_bubblewrap_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        bubblewrap.BubblewrapSandbox()


def test_no_run_leaves_a_process_of_bubblewrap(sandbox: Sandbox, fixture: Fixture) -> None:
    sandbox.run(fixture, f"sleep {MARKER} & true", before=(f"sleep {MARKER} &",))
    listing = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True).stdout
    assert f"sleep {MARKER}" not in listing
