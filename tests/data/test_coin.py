"""Coined values are plain words of their shape; what hangs together stays together."""

from __future__ import annotations

import pathlib
import random
import re

import pytest

from overseer_training.data.augment import PLAIN, put_quotes
from overseer_training.data.coin import coin, load_parts, renew, renew_value
from overseer_training.errors import DataError


@pytest.mark.parametrize(
    ("kind", "shape", "pattern"),
    [
        ("dir", "plain", r"[\w-]+"),
        ("dir", "nested", r"[\w-]+(/[\w-]+)+"),
        ("dir", "absolute", r"(/[\w-]+)+"),
        ("file", "plain", r"[\w-]+"),
        ("n", "1 digits", r"[2-9]"),
        ("n", "3 digits", r"[1-9]\d\d"),
        ("host", "address", r"\d+(\.\d+){3}"),
        ("host", "domain", r"[A-Za-z\d-]+(\.[A-Za-z\d-]+)+"),
        ("ext", "text", r"\w+"),
        ("branch", "nested", r"[\w-]+(/[\w-]+)+"),
    ],
)
def test_a_coined_value_has_its_shape(kind: str, shape: str, pattern: str) -> None:
    rng = random.Random(0)
    coined = {str(coin(kind, shape, rng)) for _ in range(500)}
    assert all(re.fullmatch(pattern, value) and PLAIN.fullmatch(value) for value in coined)
    assert len(coined) > (400 if kind != "ext" and "digits" not in shape else 7)


def test_a_port_is_free_to_use() -> None:
    rng = random.Random(0)
    assert all(1024 <= int(str(coin("port", f"{digits} digits", rng))) < 65536 for digits in (4, 5) for _ in range(300))
    assert coin("port", "2 digits", rng) is None


def test_what_a_command_may_rely_on_is_not_coined() -> None:
    assert coin("ext", "archives", random.Random(0)) is None


def renewals(entry: dict[str, object]) -> list[dict[str, object]]:
    return [renew(entry, random.Random(seed)) for seed in range(200)]


def test_a_number_and_its_words_change_together() -> None:
    entry: dict[str, object] = {"size": "20M", "size_words": ["20 MB", "20MB", "twenty megabytes"]}
    found = renewals(entry)
    assert len({one["size"] for one in found}) > 50
    for one in found:
        number = str(one["size"]).removesuffix("M")
        assert len(number) == 2 and one["size_words"] == [f"{number} MB", f"{number}MB"]


@pytest.mark.parametrize(
    "entry",
    [
        {"line": 2, "nth": ["second", "2nd"]},
        {"m": 360, "m_words": ["six hours"]},
        {"count": 5, "lines": 6},
        {"d": 1, "d_words": ["1 day"]},
        {"mode": "644"},
        {"old": ",", "old_words": ["commas"]},
        {"tree": "/var/log"},
    ],
)
def test_what_cannot_be_said_otherwise_stays(entry: dict[str, object]) -> None:
    assert all(one == entry for one in renewals(entry))


@pytest.mark.parametrize(
    ("slot", "value", "pattern"),
    [
        ("remote", "/etc/nginx/nginx.conf", r"/etc/[\w-]+/[\w-]+\.conf"),
        ("packed", "dump.tar.gz", r"[\w-]+\.tar\.gz"),
        ("folder", ".git", r"\.[\w-]+"),
        ("key", "~/.ssh/id_rsa", r"~/\.[\w-]+/[\w-]+"),
        ("var", "HOME", r"[A-Z_]\w*"),
        ("store", "result", r"[a-z_]\w*"),
        ("date", "2024-01-01", r"20\d\d-[01]\d-[0-2]\d"),
    ],
)
def test_a_renewed_name_keeps_its_form(slot: str, value: str, pattern: str) -> None:
    found = {str(one[slot]) for one in renewals({slot: value})}
    assert len(found) > 100 and all(re.fullmatch(pattern, one) for one in found)


@pytest.mark.parametrize(
    ("value", "pattern"),
    [
        ("10.20.0.6", r"\d+(\.\d+){3}"),
        ("mail.example.com", r"[\w-]+(\.[\w-]+)+"),
        ("104", r"\d{3}"),
        ("Handle quoted fields", r"[A-Z][a-z]* [a-z]+ [a-z]+"),
        ("photos/captions.txt", r"[\w-]+/[\w-]+\.txt"),
        ("customers", r"\w+"),
        ("price is $5", r"price is \$5"),
        ("/", "/"),
    ],
)
def test_a_value_is_renewed_as_what_it_is(value: str, pattern: str) -> None:
    found = {renew_value(value, random.Random(seed)) for seed in range(100)}
    assert all(re.fullmatch(pattern, one) for one in found)
    assert (found == {value}) == (value in ("price is $5", "/"))


def test_quotes_stand_around_free_slots_only() -> None:
    wording = "copy {file} to {dir}/{name}, then list *.{ext} in {dir}."
    found = {put_quotes(wording, {"file", "dir", "name", "ext"}, random.Random(seed)) for seed in range(500)}
    assert wording in found and {quoted.replace("'", "") for quoted in found if "'" in quoted} == {wording}
    assert all("'{dir}'/" not in quoted and "'{ext}'" not in quoted and "'{name}'" not in quoted for quoted in found)
    assert any("in '{dir}'." in quoted for quoted in found) and any("`{file}`" in quoted for quoted in found)


def test_a_file_of_parts_that_lacks_some_is_one_error(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "coined.yaml"
    path.write_text("words: [one]\n")
    with pytest.raises(DataError, match="must have"):
        load_parts(path)
