"""Of the student's own samples the right ones teach: the most frequent of each request."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from overseer_training.teachers.rejection import sample
from overseer_training.teachers.sieve import Sieve
from overseer_training.teachers.write import Assignment, answer

WORK = [answer(f"a{number}", "f", f"print {number}") for number in range(4)]
SAMPLES = {
    "print 0": ["echo 1", "printf '0'", " echo 0 ", "echo 0"],
    "print 1": ["echo 2", "", "exit 1", "echo x"],
    "print 2": ["echo 2", "echo 2", "echo 2", "echo   2"],
    "print 3": ["echo 3", "echo 4", "echo 5", "echo 6"],
}


def is_right(assignment: Assignment, command: str) -> bool:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout.strip() == assignment.id.removeprefix("a")


def generate(requests: Sequence[str], samples: int) -> list[list[str]]:
    return [SAMPLES[request][:samples] for request in requests]


def test_one_right_sample_of_each_request_is_kept() -> None:
    sieve = Sieve(lambda proposal: None, lambda text: text == "print 3")
    sampled = sample(WORK, generate, is_right, sieve, samples=4, student="tiny")
    assert [(row.example.query, row.example.answer) for row in sampled.rows] == [
        ("print 0", "echo 0"),
        ("print 2", "echo 2"),
    ]
    assert (sampled.n, sampled.solved, sampled.always_solved) == (4, 3, 1)
    assert sampled.rows[0].provenance.teachers == ("tiny",)
    assert sieve.counts.held_out == 1 and sieve.counts.is_balanced()


@pytest.mark.parametrize(
    ("samples", "reference", "kept"),
    [
        (["echo 0", "printf '0'", " printf '0' ", "echo 9"], "", "printf '0'"),
        (["echo 0", "printf '0'", "printf '0'", "echo 9"], "echo 0", "printf '0'"),
        (["echo 0", "printf '0'", "printf 0"], "echo 0", "echo 0"),
        (["echo 0", "printf '0'", "printf 0"], "seq 0 0", "printf '0'"),
    ],
)
def test_the_most_frequent_right_sample_is_kept_then_the_reference_then_the_longest(
    samples: list[str], reference: str, kept: str
) -> None:
    sieve = Sieve(lambda proposal: None, lambda text: False)
    work = [answer("a0", "f", "print 0", reference=reference)]
    sampled = sample(work, lambda requests, k: [samples], is_right, sieve, samples=len(samples), student="tiny")
    assert [row.example.answer for row in sampled.rows] == [kept]


def test_nothing_right_teaches_nothing() -> None:
    sieve = Sieve(lambda proposal: None, lambda text: False)
    sampled = sample(WORK[1:2], generate, is_right, sieve, samples=2, student="tiny")
    assert (sampled.rows, sampled.solved) == ([], 0)
    with pytest.raises(ValueError, match="at least one"):
        sample(WORK, generate, is_right, sieve, samples=0, student="tiny")
