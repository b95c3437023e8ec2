"""Variants of a request are right by construction, read like requests, and are made only where they suit."""

from __future__ import annotations

import random

import pytest

from overseer_training.data.sources.corpus import Family
from overseer_training.data.variants import at_a_place, with_an_ending

BINDING = {"dir": "src", "ext": "py"}


def family(command: str, wording: str, **changes: object) -> Family:
    utility = command.split()[0]
    return Family("a", utility, "media", command, (wording,), "why", slots=(BINDING,), **changes)  # type: ignore[arg-type]


def variants(made: Family, make: object) -> set[tuple[str, str]]:
    results = (make(made, 0, BINDING, random.Random(seed)) for seed in range(200))  # type: ignore[operator]
    return {result for result in results if result is not None}


@pytest.mark.parametrize(
    "wording",
    [
        "list {ext} files in {dir}",
        "{ext} files of the {dir} folder",
        "in folder {dir}, which files are {ext}?",
        "{dir}: all {ext}",
    ],
)
def test_the_place_is_said_instead_of_the_folder(wording: str) -> None:
    made = variants(family("find {dir} -name '*.{ext}'", wording), at_a_place)
    assert {command.split()[1] for _, command in made} == {".", "~", "/"}
    for request, command in made:
        assert "src" not in request and "src" not in command and "py" in request
        place = command.split()[1]
        words = {".": ("current", "this", "working", "present"), "~": ("home",), "/": ("root", "entire", "whole")}[
            place
        ]
        assert any(word in request.lower() for word in words)
        assert "folder folder" not in request and "the the" not in request


def test_what_lists_the_current_directory_anyway_gets_no_argument() -> None:
    listing = family("ls -l {dir} | head -n 3", "{dir}, long, three lines")
    made = {command for _, command in variants(listing, at_a_place)}
    assert made == {"ls -l | head -n 3", "ls -l ~ | head -n 3", "ls -l / | head -n 3"}
    assert "du -h ." in {command for _, command in variants(family("du -h {dir}", "usage of {dir}"), at_a_place)}


@pytest.mark.parametrize(
    ("command", "wording"),
    [
        ("mkdir {dir}", "make {dir}"),  # not everywhere
        ("find {dir}/bin -name '*.{ext}'", "{ext} in {dir}"),  # a path of which the folder is a part
        ("find '{dir}' -name '*.{ext}'", "{ext} in {dir}"),
        ("find {dir} -name '*.{ext}'", "{ext} in '{dir}'"),
        ("find {dir} -name '*.{ext}'", "{ext} in {dir}/bin"),
        ("find {dir} -name '*.{ext}'", "the folder called {dir} has {ext} files, list them"),
        ("find {dir} -name '*.{ext}'", "{dir} and {dir}"),
    ],
)
def test_no_place_where_it_does_not_suit(command: str, wording: str) -> None:
    assert not variants(family(command, wording), at_a_place)


def test_a_command_that_changes_files_stays_below_the_current_directory() -> None:
    made = variants(family("find {dir} -name '*.{ext}' -delete", "delete {ext} in {dir}"), at_a_place)
    assert {command.split()[1] for _, command in made} == {"."}


def test_an_ending_is_said_and_put() -> None:
    made = variants(family("find {dir} -name '*.{ext}'", "list {ext} files in {dir}."), with_an_ending)
    assert len(made) > 10
    for request, command in made:
        assert request.startswith("list py files in src") and command.startswith("find src -name '*.py' ")
        for sign, words in (
            (" > ", (" a", "file", ".")),
            ("| sort", ("sorted", "order")),
            ("| wc", ("count",)),
            ("| head", ("first",)),
        ):
            assert sign not in command or any(word in request for word in words)


@pytest.mark.parametrize(
    ("command", "wording"),
    [
        ("find {dir} -name '*.{ext}' -delete", "delete {ext} files in {dir}"),
        ("ls {dir} > list", "write the names in {dir} to list"),
        ("find {dir} -name '*.{ext}' | wc -l", "print the amount of {ext} files in {dir}"),
        ("find {dir} -name '*.{ext}'", "which {ext} files are in {dir}?"),
        ("mv {dir} old", "move {dir} to old"),
    ],
)
def test_no_ending_where_it_does_not_suit(command: str, wording: str) -> None:
    assert not variants(family(command, wording), with_an_ending)


def test_only_lists_of_paths_are_sorted() -> None:
    made = variants(family("ps aux", "all processes"), with_an_ending)
    assert made and not any("sort" in command or "head" in command for _, command in made)
