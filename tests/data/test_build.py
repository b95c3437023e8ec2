"""Rows of a run: split by family before anything else, without leaks, the same for the same seed, and whole on disk."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from collections.abc import Callable

import pytest

from overseer_training.config.plan import Plan
from overseer_training.data.balance import missing_rows
from overseer_training.data.build import build_rows, estimate_training_rows
from overseer_training.data.row_file import SPLITS, RowFile, read_quarantine
from overseer_training.data.sources.corpus import CORPUS, Family, Split, form_of, load_families

FamilyOf = Callable[..., Family]
PlanOf = Callable[..., Plan]
Build = Callable[..., dict[str, RowFile]]


@pytest.fixture
def build(tmp_path: pathlib.Path) -> Build:
    """Builds the rows of a plan, in the folder `data` of the test unless another is given."""

    def make(plan: Plan, families: list[Family] | None = None, name: str = "data") -> dict[str, RowFile]:
        return build_rows(plan, tmp_path / name, families)

    return make


def reasons(folder: pathlib.Path) -> collections.Counter[str]:
    return collections.Counter(row.reason for row in read_quarantine(folder))


def in_split(split: Split) -> dict[str, str]:
    """Name and command of a family in `split`."""
    commands = (f"find {{dir}} -maxdepth {depth} -name '*.{{ext}}'" for depth in range(50, 1000))
    return {
        "name": f"find-{split}",
        "command": next(c for c in commands if Family("a", "", "", c, (), "").split == split),
    }


@pytest.fixture(scope="module")
def corpus() -> list[Family]:
    """Every fourth family: enough to meet every split and platform. Each file alone, as names may clash while they are written."""
    return [family for path in sorted(CORPUS.glob("commands/*.yaml")) for family in load_families(path)][::4]


@pytest.fixture
def few(family_of: FamilyOf) -> list[Family]:
    """One family of each split, with requests of their own."""
    slots = {"train": "pdf", "validation": "odt", "test": "mkv"}
    return [family_of(**in_split(split), slots=({"dir": f"{split}ing", "ext": slots[split]},)) for split in SPLITS]


def test_no_request_of_training_stands_in_a_held_out_split(corpus: list[Family], build: Build, plan_of: PlanOf) -> None:
    splits = build(plan_of("--augmented-copies", "1"), corpus)
    held_out = {example.query.casefold() for split in ("validation", "test") for example in splits[split]}
    assert len(held_out) > 100
    assert not {example.query.casefold() for example in splits["train"]} & held_out


def test_no_family_is_in_two_splits(corpus: list[Family], build: Build, plan_of: PlanOf) -> None:
    rows = build(plan_of("--augmented-copies", "1"), corpus)
    by_name = {family.name: family.split for family in corpus}
    for split, examples in rows.items():
        assert {by_name[example.family] for example in examples} == {split}


def test_only_training_rows_are_augmented_or_explained(corpus: list[Family], build: Build, plan_of: PlanOf) -> None:
    splits = build(plan_of("--explanation-share", "1"), corpus)
    assert any("/copy-" in example.id for example in splits["train"])
    assert any(example.skill == "explanation" for example in splits["train"])
    for split in ("validation", "test"):
        assert all("/copy-" not in e.id and e.skill == "command" for e in splits[split])


@pytest.mark.parametrize(("share", "platforms"), [("0", {"linux"}), ("1", {"macos"}), ("0.5", {"linux", "macos"})])
def test_rows_are_for_the_platforms_that_were_asked_for(
    corpus: list[Family], build: Build, plan_of: PlanOf, share: str, platforms: set[str]
) -> None:
    rows = build(plan_of("--macos-share", share), corpus)
    commands = {(family.name, platform): family.command_for(platform) for family in corpus for platform in platforms}  # type: ignore[arg-type]
    for examples in rows.values():
        assert {example.platform for example in examples} == platforms
        assert all(commands[example.family, example.platform] for example in examples)


def test_a_request_that_differs_in_case_and_spaces_only_is_set_aside(
    family_of: FamilyOf, build: Build, plan_of: PlanOf, tmp_path: pathlib.Path
) -> None:
    held_out = family_of(**in_split("test"), slots=({"dir": "here", "ext": "md"},))
    shouting = tuple(
        wording.upper().replace("{EXT}", "{ext}").replace("{DIR}", "{dir}").replace(" ", "  ")
        for wording in held_out.wordings
    )
    train = family_of(**in_split("train"), slots=held_out.slots, wordings=shouting, fixed=frozenset({"dir", "ext"}))
    rows = build(plan_of("--macos-share", "0", "--explanation-share", "0", "--variant-share", "0"), [train, held_out])
    assert list(rows["train"]) == []
    assert set(reasons(tmp_path / "data")) == {"request is in a held-out split"}
    assert len(rows["test"]) == len(held_out.wordings)


def test_a_repeated_conversation_is_set_aside_once(
    few: list[Family], build: Build, plan_of: PlanOf, tmp_path: pathlib.Path
) -> None:
    plan = plan_of("--augmented-copies", "0", "--macos-share", "0", "--explanation-share", "0", "--variant-share", "0")
    rows = build(plan, [few[0], few[0]])
    assert len(rows["train"]) == len(few[0].wordings)
    assert reasons(tmp_path / "data") == {"repeated": len(few[0].wordings)}


def test_rows_and_set_aside_rows_are_all_rows(
    few: list[Family], build: Build, plan_of: PlanOf, tmp_path: pathlib.Path
) -> None:
    plan = plan_of("--augmented-copies", "0", "--macos-share", "0", "--explanation-share", "0", "--variant-share", "0")
    twice = [*few, *few]
    rows = build(plan, twice)
    kept = sum(len(examples) for examples in rows.values())
    assert kept + reasons(tmp_path / "data").total() == sum(len(family.wordings) for family in twice)
    kept_ids = [example.id for examples in rows.values() for example in examples]
    assert len(set(kept_ids)) == len(kept_ids)


def test_an_augmented_row_says_and_does_the_same(few: list[Family], build: Build, plan_of: PlanOf) -> None:
    rows = build(
        plan_of("--augmented-copies", "5", "--macos-share", "0", "--explanation-share", "0", "--variant-share", "0"),
        few[:1],
    )
    copies = [example for example in rows["train"] if "/copy-" in example.id]
    assert len(copies) > 20
    for example in copies:
        folder, _, _, _, pattern = example.answer.removeprefix("find ").split(" ")
        extension = pattern.removeprefix("'*.").removesuffix("'")
        said = re.sub("[\"'`]", "", example.query)
        assert f" {folder}, please" in said and f" {extension} things" in said
        assert (folder, extension) != ("training", "pdf")


@pytest.mark.parametrize(
    ("flag", "skill"),
    [("--explanation-share", "explanation"), ("--augmented-copies", "/copy-"), ("--macos-share", "macos")],
)
def test_each_share_reaches_the_rows(flag: str, skill: str, few: list[Family], build: Build, plan_of: PlanOf) -> None:
    none = ["--explanation-share", "0", "--augmented-copies", "0", "--macos-share", "0", "--variant-share", "0"]

    def count(plan: Plan) -> int:
        return sum(
            skill in (example.skill, example.platform) or skill in example.id for example in build(plan, few)["train"]
        )

    assert count(plan_of(*none)) == 0
    assert count(plan_of(*none, flag, "1")) > 3


def test_rows_of_a_rare_skill_come_again_but_not_for_ever(build: Build, plan_of: PlanOf) -> None:
    counts = {"command": 9000, "dialogue": 200, "safety": 10, "tools": 500, "explanation": 1, "prediction": 0}
    missing = missing_rows(counts, 0.04, {})
    assert missing == {"command": 0, "dialogue": 188, "safety": 30, "tools": 0, "prediction": 0}
    assert missing_rows(counts, 0.0, {"tools": 0.1}) == {**dict.fromkeys(missing, 0), "tools": 471}
    plan = plan_of("--composed-rows", "3000", "--augmented-copies", "0", "--prediction-rows", "0")
    once, more = (
        list(build(dataclasses.replace(plan, least_skill_share=share, safety_share=0.0), None, f"{share}")["train"])
        for share in (0.0, 0.05)
    )
    assert more[: len(once)] == once
    dialogues = collections.Counter(row.turns for row in more if row.skill == "dialogue")
    assert round(0.05 * len(once)) == dialogues.total() and max(dialogues.values()) - min(dialogues.values()) <= 1
    assert len({row.id for row in more}) == len(more)


@pytest.mark.parametrize(("copies", "times"), [(0, 1), (1, 2), (3, 4), (9, 4)])
def test_a_command_without_names_is_as_often_in_an_epoch_as_one_with_names(
    copies: int, times: int, build: Build, family_of: FamilyOf, plan_of: PlanOf
) -> None:
    plain = tuple(f"which kernel runs here {n}" for n in range(12))
    named = tuple(f"list {{file}} {n}" for n in range(12))
    families = [
        family_of("uname-release", command="uname -r", wordings=plain, slots=({},)),
        family_of("tar-list", command="tar -tf {file}", wordings=named, slots=({"file": "a.tar"},)),
    ]
    plan = plan_of("--augmented-copies", str(copies), "--explanation-share", "0", "--variant-share", "0")
    rows = list(build(plan, families, str(copies))["train"])
    requests = collections.Counter(row.query for row in rows if row.family == "uname-release")
    assert set(requests.values()) == {times} and len(requests) == 12
    assert len({row.id for row in rows}) == len(rows)
    varied = sum(row.family == "tar-list" for row in rows)
    assert varied > 12 * copies  # some draws repeat others


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    corpus: list[Family], build: Build, plan_of: PlanOf, tmp_path: pathlib.Path
) -> None:
    plan = plan_of("--augmented-copies", "1")
    build(plan, corpus, "one")
    build(plan, corpus, "again")
    build(plan_of("--augmented-copies", "1", "--seed", "7"), corpus, "other")
    one, again, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "again", "other")
    )
    assert one == again
    assert other["train.jsonl"] != one["train.jsonl"]
    assert other["test.jsonl"] == one["test.jsonl"]  # scores stay comparable


def test_no_variant_has_the_form_of_a_held_out_command(build: Build, plan_of: PlanOf) -> None:
    families = load_families()
    held_out = [form_of(family) for family in families if family.split != "train"]
    rows = build(plan_of("--augmented-copies", "0", "--explanation-share", "0"), families)["train"]
    variants = [row for row in rows if row.id.endswith(("/place", "/ending"))]
    assert len(variants) > 1000
    assert not [row.answer for row in variants if any(form.fullmatch(row.answer) for form in held_out)]


def test_the_estimate_of_a_plan_is_near_what_is_built(build: Build, plan_of: PlanOf) -> None:
    plan = plan_of("--composed-rows", "500", "--augmented-copies", "1")
    built = len(build(plan)["train"])
    assert abs(estimate_training_rows(plan) / built - 1) < 0.1
