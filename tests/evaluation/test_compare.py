"""What counts as having done the same, rule by rule."""

from __future__ import annotations

import dataclasses

import pytest

from overseer_training.evaluation.compare import compare, is_ordered, normalize_output
from overseer_training.evaluation.sandbox import Execution
from overseer_training.evaluation.sandbox.base import FileState

EMPTY = Execution(0, "", "", {})


def printed(text: str, exit_code: int = 0) -> Execution:
    return dataclasses.replace(EMPTY, stdout=text, exit_code=exit_code)


def called(*calls: str) -> Execution:
    return dataclasses.replace(EMPTY, calls=tuple(("ok", *call.split()) for call in calls))


def test_blanks_and_leading_dots_do_not_count() -> None:
    assert normalize_output("  ./a \t b\n\n./c\n") == ["a b", "c"]


@pytest.mark.parametrize(
    ("command", "ordered"),
    [
        ("ls -t", True),
        ("find . -name sort", False),
        ("find . | sed s/a/b/", False),
        ("find . | sort -r", True),
        ("sudo find /etc", False),
        ("grep -rn foo .", False),
        ("grep -i -r foo .", False),
        ("grep -i foo a", True),
        ("sort a | xargs -n1 echo", True),
        ("cat a | xargs -P4 -n1 echo", False),
    ],
)
def test_order_is_ignored_for_unordered_producers_only(command: str, ordered: bool) -> None:
    assert is_ordered(command) is ordered
    assert compare(command, printed("a\nb\n"), printed("b\na\n")).equal is not ordered


def test_numbers_that_change_between_two_runs_of_the_reference_are_masked() -> None:
    assert compare("date", printed("at 10:01"), printed("at 11:59"), printed("at 10:02")).equal
    assert compare("rsync", printed("1,234.5 bytes"), printed("99.1 bytes"), printed("234.50 bytes")).equal
    assert not compare("wc a", printed("10"), printed("11"), printed("10")).equal


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("docker exec -it web sh", "docker exec -i -t web sh", True),
        ("journalctl -n50", "journalctl -n 50", True),
        ("docker run --name=web nginx", "docker run --name web nginx", True),
        ("apt install -y jq", "apt -y install jq", True),
        ("mount -t ext4 /dev/sdb1 /mnt", "mount /dev/sdb1 /mnt -t ext4", True),
        ("mount -t ext4 /dev/sdb1 /mnt", "mount /mnt /dev/sdb1 -t ext4", False),
        ("mount -t ext4 /dev/sdb1 /mnt", "mount /dev/sdb1 /mnt -o ext4", False),
        ("ssh -p 22 -i key web", "ssh web -i key -p 22", True),
        ("ssh -p 22 -i key web", "ssh web -i 22 -p key", False),
        ("ssh -p 22 web ls", "ssh -p 22 ls web", False),
        ("su -c id alice", "su alice -c id", True),
        ("screen", "screen -r", False),
        ("screen", "tmux", False),
        ("kubectl scale deployment web --replicas=3", "kubectl scale --replicas=3 deployment web", True),
        ("kubectl scale deployment web --replicas=3", "kubectl scale --replicas=2 deployment web", False),
        ("usermod -g a -G b me", "usermod -G a -g b me", False),
        ("systemctl stop web", "systemctl start web", False),
    ],
)
def test_calls(left: str, right: str, equal: bool) -> None:
    assert compare(left, called(left), called(right)).equal is equal


@pytest.mark.parametrize(
    "state", [FileState("file", 0o600, "x"), FileState("dir", 0o644, "x"), FileState("file", 0o644, "y")]
)
def test_kind_mode_and_content_of_files_count(state: FileState) -> None:
    reference = dataclasses.replace(EMPTY, files={"a": FileState("file", 0o644, "x")})
    assert not compare("c", reference, dataclasses.replace(EMPTY, files={"a": state})).equal
    assert not compare("c", reference, EMPTY).equal and not compare("c", EMPTY, reference).equal


def test_the_exit_code_counts_where_nothing_else_can_be_compared() -> None:
    assert not compare("test -f a", EMPTY, printed("", 1)).equal
    changed = dataclasses.replace(EMPTY, files={"a": FileState("file", 0o644, "x")})
    assert compare("touch a", changed, dataclasses.replace(changed, exit_code=1), untouched=EMPTY).equal


def test_processes_and_the_time_limit_count() -> None:
    assert not compare("kill 1", EMPTY, dataclasses.replace(EMPTY, processes=("sleep 9",))).equal
    assert not compare("ls", EMPTY, dataclasses.replace(EMPTY, timed_out=True)).equal
