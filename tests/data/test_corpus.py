"""The corpus loads, its problems are found and told, and a family's split depends on its command alone."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.data.sources.corpus import (
    TEST_SHARE,
    VALIDATION_SHARE,
    Family,
    fill,
    load_families,
    load_fixture_scripts,
    render,
    render_explanation,
)
from overseer_training.errors import DataError

Load = Callable[..., list[Family]]

ENTRY: dict[str, Any] = {
    "family": "count-lines",
    "utility": "wc",
    "fixture": "texts",
    "command": "wc -l {file}",
    "slots": [{"file": "a.txt"}, {"file": "b.txt"}],
    "wordings": ["count lines of {file}", "how many lines in {file}?", "lines {file}", "number of lines of {file}"],
    "explain": "Counts the lines of {file}.",
}


@pytest.fixture
def load(tmp_path: pathlib.Path) -> Load:
    """`load(command="…")`: the families of a corpus with one entry, changed; a key set to None is left out."""

    def make(*more: dict[str, Any], **changes: Any) -> list[Family]:
        entry = {key: value for key, value in {**ENTRY, **changes}.items() if value is not None}
        (tmp_path / "a.yaml").write_text(yaml.safe_dump([entry, *more], sort_keys=False, allow_unicode=True))
        return load_families(tmp_path)

    return make


def test_the_packaged_corpus_has_no_problem_and_each_family_its_fixture() -> None:
    families = load_families()
    assert {family.split for family in families} == {"train", "validation", "test"}
    scripts = load_fixture_scripts()
    assert sorted({family.fixture for family in families} - set(scripts)) == []


def test_a_valid_entry_becomes_a_family(load: Load) -> None:
    (family,) = load(also=["cat {file} | wc -l"], macos=" wc -l < {file} ", exit_code=1, fixed=["file"], expect=["3"])
    assert (family.command, family.macos, family.exit_code) == ("wc -l {file}", "wc -l < {file}", 1)
    assert (family.also, family.fixed, family.expect) == (("cat {file} | wc -l",), frozenset({"file"}), ("3",))
    assert family.slots == ({"file": "a.txt"}, {"file": "b.txt"})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"comand": "x"}, "unknown key 'comand'"),
        ({"command": None}, "'command' must be a text"),
        ({"command": "  "}, "'command' must be a text"),
        ({"explain": ["x"]}, "'explain' must be a text"),
        ({"macos": ["x"]}, "'macos' must be a text"),
        ({"wordings": None}, "'wordings' must be a list of texts"),
        ({"wordings": "count"}, "'wordings' must be a list of texts"),
        ({"wordings": [*ENTRY["wordings"], {"note": "x"}]}, "'wordings' must be a list of texts"),
        ({"also": "x"}, "'also' must be a list of texts"),
        ({"slots": {}}, "'slots' must be a list of mappings"),
        ({"slots": []}, "'slots' must be a list of mappings"),
        ({"slots": [{"file": "a"}, {"dir": "b"}]}, "every binding in 'slots' must have the same names"),
        ({"slots": [{"file": ["a"]}]}, "slot values must be texts or numbers"),
        ({"platform": "windows"}, "'platform' must be linux or macos"),
        ({"exit_code": "one"}, "'exit_code' must be a whole number"),
        ({"family": "Count_Lines"}, "family names are kebab-case"),
        ({"command": "wc -l {file}\necho"}, "the command must be one line"),
        ({"wordings": ENTRY["wordings"][:3]}, "3 wordings; 12 are wanted, 4 are the least"),
        ({"wordings": [*ENTRY["wordings"], "Count  lines of {file}"]}, "wording twice: 'count lines of {file}'"),
        ({"slots": [{"file": "a", "dir": "b"}]}, "slot 'dir' is never used"),
        ({"wordings": [*ENTRY["wordings"], "count {file} in {dir}"]}, "wording has unknown slots ['dir']"),
        ({"wordings": [*ENTRY["wordings"], "count it"]}, "wording lacks ['file'], which the command needs: 'count it'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_of_an_entry_is_told_with_its_place(changes: dict[str, Any], problem: str, load: Load) -> None:
    with pytest.raises(DataError) as caught:
        load(**changes)
    assert problem in str(caught.value)
    assert "a.yaml: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_fixed_slot_need_not_stand_in_the_wording(load: Load) -> None:
    assert load(wordings=[*ENTRY["wordings"], "count it"], fixed=["file"])


def test_all_problems_of_all_files_come_at_once(load: Load, tmp_path: pathlib.Path) -> None:
    (tmp_path / "b.yaml").write_text("- family: [unclosed")
    (tmp_path / "c.yaml").write_text("family: no-list")
    with pytest.raises(DataError, match=r"^the corpus has 4 problems: ") as caught:
        load({**ENTRY}, {"not": "a family", **ENTRY, "family": "other"})
    for part in (
        "a.yaml: count-lines: the name is taken in a.yaml",
        "b.yaml: ",
        "c.yaml: is not a list",
        "unknown key 'not'",
    ):
        assert part in str(caught.value)


def test_a_folder_without_a_corpus_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="no corpus files"):
        load_families(tmp_path)


@pytest.mark.parametrize(
    "written", ["0644", "1.10", "yes", "null", "12:30", "2026-11-22T10:30:00", "1_000", "0x1F", "~"]
)
def test_slot_values_are_taken_as_they_are_written(written: str, tmp_path: pathlib.Path) -> None:
    text = yaml.safe_dump([{**ENTRY, "slots": [{"file": "VALUE"}]}]).replace("VALUE", written)
    (tmp_path / "a.yaml").write_text(text)
    assert load_families(tmp_path)[0].slots == ({"file": written},)


# Filling and rendering.


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("awk '{print $1}' {file}", "awk '{print $1}' a.txt"),
        ("echo ${HOME} ${file} {file}", "echo ${HOME} $a.txt a.txt"),
        ("find {dir} -exec rm {} +", "find {dir} -exec rm {} +"),
        ("touch {file}{1..5} {a,b}", "touch a.txt{1..5} {a,b}"),
        ("{File} { file } {{file}}", "{File} { file } {a.txt}"),
    ],
)
def test_filling_leaves_other_braces(template: str, filled: str) -> None:
    assert fill(template, {"file": "a.txt"}) == filled


@given(st.text(), st.dictionaries(st.sampled_from(["file", "n"]), st.text(alphabet="ab{}$ ")))
def test_filling_never_fills_what_it_filled_in(text: str, binding: dict[str, str]) -> None:
    assert fill("{other}" + text.replace("{", ""), binding) == "{other}" + text.replace("{", "")
    if "file" in binding:
        assert fill("a{file}b", binding) == f"a{binding['file']}b"


def test_a_row_for_each_wording_with_the_bindings_in_turn(load: Load) -> None:
    (family,) = load()
    rows = list(render(family))
    assert [row.answer for row in rows] == ["wc -l a.txt", "wc -l b.txt", "wc -l a.txt", "wc -l b.txt"]
    assert [row.query for row in rows[:2]] == ["count lines of a.txt", "how many lines in b.txt?"]
    assert len({row.id for row in rows}) == 4


def test_a_family_of_one_platform_has_no_rows_on_the_other(load: Load) -> None:
    (family,) = load(platform="macos")
    assert list(render(family, "linux")) == [] and len(list(render(family, "macos"))) == 4
    assert render_explanation(family, 0, "linux") is None


def test_macos_takes_its_own_command(load: Load) -> None:
    (family,) = load(macos="wc -l < {file}")
    assert next(render(family, "macos")).answer == "wc -l < a.txt"
    assert render_explanation(family, 0, "macos") is None  # the explanation is of the other command


def test_an_explanation_follows_its_command(load: Load) -> None:
    row = render_explanation(load()[0], 1)
    assert row is not None and row.skill == "explanation"
    assert [turn.role for turn in row.turns] == ["user", "assistant"] * 2
    assert row.turns[1].content == "wc -l b.txt" and row.answer == "Counts the lines of b.txt."


# Splits.


def split_of(command: str, name: str = "a", **changes: Any) -> str:
    return Family(name, "find", "media", command, ("a",), "b", **changes).split


@given(st.text(), st.text())
def test_the_split_is_a_function_of_the_command_alone(command: str, name: str) -> None:
    assert split_of(command) == split_of(command, name, platform="macos", slots=({"n": "3"},), also=("ls",))


def test_the_same_command_in_other_clothes_is_on_the_same_side() -> None:
    for number in range(50):
        command = f"head -n {number} '{{file}}'"
        for other in (f'head -n {number} "{{path}}"', f"sudo head  -n {number} '{{file2}}'"):
            assert split_of(command) == split_of(other)


def test_splits_have_the_shares_that_were_chosen() -> None:
    counts = collections.Counter(split_of(f"head -n {number} a.txt") for number in range(20000))
    assert counts["test"] / 20000 == pytest.approx(TEST_SHARE, abs=0.01)
    assert counts["validation"] / 20000 == pytest.approx(VALIDATION_SHARE, abs=0.01)


def test_basic_commands_are_always_trained_on() -> None:
    assert {split_of(f"ls -{number}") for number in range(100)} == {split_of("sudo mv '{file}' '{file2}'")} == {"train"}


def test_splits_of_commands_never_move() -> None:
    """Scores of different versions compare only while a family stays where it is."""
    pinned = {"head -n 1 {file}": "train", "head -n 2 {file}": "test", "head -n 21 {file}": "validation"}
    assert {command: split_of(command) for command in pinned} == pinned
