"""Recall on generated secrets of many kinds, and false alarms on the commands and requests of the corpus."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overseer_training.data.clean import parses
from overseer_training.data.sources.corpus import load_families, render
from overseer_training.guards.secrets import PLACEHOLDER, find_secrets, remove_from_all, remove_secrets
from overseer_training.records import Example

from .secret_cases import Case, secret_cases

CASES = list(secret_cases(each=5, seed=1))
BENIGN = 5000
# Families whose own text shows a made-up secret.
SHOWING = {"docker-run-env-variable", "nmcli-wifi-connect"}


def of_corpus() -> Iterator[Example]:
    for family in load_families():
        yield from itertools.islice(render(family), 3)


def test_secrets_of_every_kind_are_taken_out() -> None:
    assert len(CASES) >= 1000
    assert len({case.kind for case in CASES}) >= 30
    missed = [case.text for case in CASES if case.secret in remove_secrets(case.text).text]
    assert len(missed) <= len(CASES) // 100, missed


def test_the_corpus_is_left_alone() -> None:
    rows = list(of_corpus())[:BENIGN]
    assert len(rows) == BENIGN
    texts = [text for row in rows for text in (row.query, row.answer)]
    found = [text for text in texts if find_secrets(text)]
    assert len(found) <= len(texts) // 400, found


@pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.kind)
def test_what_is_left_is_still_a_command(case: Case) -> None:
    if parses(case.text):
        assert parses(remove_secrets(case.text).text)


@pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.kind)
def test_taking_out_twice_is_taking_out_once(case: Case) -> None:
    once = remove_secrets(case.text).text
    assert remove_secrets(once).text == once


def test_only_the_secret_goes() -> None:
    command = "mysql -h db1 -u root -p'S3cret Word' shop && curl -u anna:hunter22 'https://h/x?token=abcdef0123&page=2'"
    assert remove_secrets(command).text == (
        f"mysql -h db1 -u root -p'{PLACEHOLDER}' shop && curl -u anna:{PLACEHOLDER} 'https://h/x?token={PLACEHOLDER}&page=2'"
    )


def test_a_secret_that_one_text_shows_is_taken_out_of_all() -> None:
    texts = ["mysql -u root -phunter2secrets9 shop", "Access denied for 'root' using hunter2secrets9"]
    assert [redaction.text for redaction in remove_from_all(texts)] == [
        f"mysql -u root -p{PLACEHOLDER} shop",
        f"Access denied for 'root' using {PLACEHOLDER}",
    ]


def test_a_text_too_long_to_be_looked_at_goes_as_a_whole() -> None:
    assert remove_secrets("a" * 100_000).text == PLACEHOLDER


@pytest.mark.parametrize(
    "text",
    [
        "docker run -p 8080:80 -u 1000:1000 nginx",
        "ssh-keygen -t ed25519 -N '' -f key",
        "mkdir -p /srv/backup && ls -pa",
        "git log --format=%H -S 'password = '",
        "why does sudo ask for my password every time?",
        "change the password of anna",
        "openssl x509 -in cert.pem -noout -dates",
        "echo 3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b  a.iso | sha256sum -c",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPv4qWm0Zb1JbV6b9VZf2m3oXk1u4Yb2b9n1 anna@nas",
        "kubectl get secret db -o jsonpath='{.data.password}'",
        "PasswordAuthentication no",
        "psql --no-password -h db1 shop",
    ],
)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    assert find_secrets(text) == []


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=100)
def test_any_text_can_be_looked_at(text: str) -> None:
    spans = find_secrets(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(left.end <= right.start for left, right in itertools.pairwise(spans))
