"""Rows of a run: split by family before anything else, without leaks, the same for the same seed, and whole on disk."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable

import pytest

from overseer_training.config.plan import Plan
from overseer_training.data.balance import missing_rows
from overseer_training.data.build import (
    SPLITS,
    Rows,
    build_rows,
    estimate_training_rows,
    find_existing_data,
    read_rows,
    write_rows,
)
from overseer_training.data.sources.corpus import CORPUS, Family, Split, form_of, load_families
from overseer_training.errors import DataError
from overseer_training.records import Example, Turn

FamilyOf = Callable[..., Family]
PlanOf = Callable[..., Plan]


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


def test_no_request_of_training_stands_in_a_held_out_split(corpus: list[Family], plan_of: PlanOf) -> None:
    splits = build_rows(plan_of("--augmented-copies", "1"), corpus).splits
    held_out = {example.query.casefold() for split in ("validation", "test") for example in splits[split]}  # type: ignore[index]
    assert len(held_out) > 100
    assert not {example.query.casefold() for example in splits["train"]} & held_out


def test_no_family_is_in_two_splits(corpus: list[Family], plan_of: PlanOf) -> None:
    rows = build_rows(plan_of("--augmented-copies", "1"), corpus)
    by_name = {family.name: family.split for family in corpus}
    for split, examples in rows.splits.items():
        assert {by_name[example.family] for example in examples} == {split}


def test_only_training_rows_are_augmented_or_explained(corpus: list[Family], plan_of: PlanOf) -> None:
    splits = build_rows(plan_of("--explanation-share", "1"), corpus).splits
    assert any("/copy-" in example.id for example in splits["train"])
    assert any(example.skill == "explanation" for example in splits["train"])
    for split in ("validation", "test"):
        assert all("/copy-" not in e.id and e.skill == "command" for e in splits[split])  # type: ignore[index]


@pytest.mark.parametrize(("share", "platforms"), [("0", {"linux"}), ("1", {"macos"}), ("0.5", {"linux", "macos"})])
def test_rows_are_for_the_platforms_that_were_asked_for(
    corpus: list[Family], plan_of: PlanOf, share: str, platforms: set[str]
) -> None:
    rows = build_rows(plan_of("--macos-share", share), corpus)
    commands = {(family.name, platform): family.command_for(platform) for family in corpus for platform in platforms}  # type: ignore[arg-type]
    for examples in rows.splits.values():
        assert {example.platform for example in examples} == platforms
        assert all(commands[example.family, example.platform] for example in examples)


def test_a_request_that_differs_in_case_and_spaces_only_is_set_aside(family_of: FamilyOf, plan_of: PlanOf) -> None:
    held_out = family_of(**in_split("test"), slots=({"dir": "here", "ext": "md"},))
    shouting = tuple(
        wording.upper().replace("{EXT}", "{ext}").replace("{DIR}", "{dir}").replace(" ", "  ")
        for wording in held_out.wordings
    )
    train = family_of(**in_split("train"), slots=held_out.slots, wordings=shouting, fixed=frozenset({"dir", "ext"}))
    rows = build_rows(
        plan_of("--macos-share", "0", "--explanation-share", "0", "--variant-share", "0"), [train, held_out]
    )
    assert rows.splits["train"] == []
    assert {reason for reason, _ in rows.quarantined} == {"request is in a held-out split"}
    assert len(rows.splits["test"]) == len(held_out.wordings)


def test_a_repeated_conversation_is_set_aside_once(few: list[Family], plan_of: PlanOf) -> None:
    plan = plan_of("--augmented-copies", "0", "--macos-share", "0", "--explanation-share", "0", "--variant-share", "0")
    rows = build_rows(plan, [few[0], few[0]])
    assert len(rows.splits["train"]) == len(few[0].wordings)
    assert collections.Counter(reason for reason, _ in rows.quarantined) == {"repeated": len(few[0].wordings)}


def test_rows_and_set_aside_rows_are_all_rows(few: list[Family], plan_of: PlanOf) -> None:
    plan = plan_of("--augmented-copies", "0", "--macos-share", "0", "--explanation-share", "0", "--variant-share", "0")
    twice = [*few, *few]
    rows = build_rows(plan, twice)
    kept = sum(len(examples) for examples in rows.splits.values())
    assert kept + len(rows.quarantined) == sum(len(family.wordings) for family in twice)
    kept_ids = [example.id for examples in rows.splits.values() for example in examples]
    assert len(set(kept_ids)) == len(kept_ids)


def test_an_augmented_row_says_and_does_the_same(few: list[Family], plan_of: PlanOf) -> None:
    rows = build_rows(
        plan_of("--augmented-copies", "5", "--macos-share", "0", "--explanation-share", "0", "--variant-share", "0"),
        few[:1],
    )
    copies = [example for example in rows.splits["train"] if "/copy-" in example.id]
    assert len(copies) > 20
    for example in copies:
        folder, _, _, _, pattern = example.answer.removeprefix("find ").split(" ")
        extension = pattern.removeprefix("'*.").removesuffix("'")
        assert f" {folder}, please" in example.query and f" {extension} things" in example.query
        assert (folder, extension) != ("training", "pdf")


@pytest.mark.parametrize(
    ("flag", "skill"),
    [("--explanation-share", "explanation"), ("--augmented-copies", "/copy-"), ("--macos-share", "macos")],
)
def test_each_share_reaches_the_rows(flag: str, skill: str, few: list[Family], plan_of: PlanOf) -> None:
    none = ["--explanation-share", "0", "--augmented-copies", "0", "--macos-share", "0", "--variant-share", "0"]

    def count(plan: Plan) -> int:
        return sum(
            skill in (example.skill, example.platform) or skill in example.id
            for example in build_rows(plan, few).splits["train"]
        )

    assert count(plan_of(*none)) == 0
    assert count(plan_of(*none, flag, "1")) > 3


def test_rows_of_a_rare_skill_come_again_but_not_for_ever(plan_of: PlanOf) -> None:
    counts = {"command": 9000, "dialogue": 200, "safety": 10, "tools": 500, "explanation": 1, "prediction": 0}
    missing = missing_rows(counts, 0.04)
    assert missing == {"command": 0, "dialogue": 188, "safety": 30, "tools": 0, "prediction": 0}
    plan = plan_of("--composed-rows", "3000", "--augmented-copies", "0", "--prediction-rows", "0")
    once, more = (
        build_rows(dataclasses.replace(plan, least_skill_share=share)).splits["train"] for share in (0.0, 0.05)
    )
    assert more[: len(once)] == once
    dialogues = collections.Counter(row.turns for row in more if row.skill == "dialogue")
    assert round(0.05 * len(once)) == dialogues.total() and max(dialogues.values()) - min(dialogues.values()) <= 1
    assert len({row.id for row in more}) == len(more)


def written(rows: Rows, folder: pathlib.Path) -> dict[str, bytes]:
    write_rows(rows, folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(
    corpus: list[Family], plan_of: PlanOf, tmp_path: pathlib.Path
) -> None:
    plan = plan_of("--augmented-copies", "1")
    one, again = (written(build_rows(plan, corpus), tmp_path / name) for name in ("one", "again"))
    assert one == again
    other = written(build_rows(plan_of("--augmented-copies", "1", "--seed", "7"), corpus), tmp_path / "other")
    assert other["train.jsonl"] != one["train.jsonl"]
    assert other["test.jsonl"] == one["test.jsonl"]  # scores stay comparable


def test_rows_read_back_as_they_were_written(few: list[Family], plan_of: PlanOf, tmp_path: pathlib.Path) -> None:
    odd = Example(
        "odd",
        "f",
        "command",
        (Turn("user", 'a\u2028b\x85c\n"ü"'), Turn("assistant", "printf 'x\\n'")),
        "linux",
        "corpus",
    )
    rows = build_rows(plan_of(), few)
    rows.splits["train"].append(odd)
    write_rows(rows, tmp_path)
    assert read_rows(tmp_path) == rows.splits


def test_the_manifest_counts_what_is_there(few: list[Family], plan_of: PlanOf, tmp_path: pathlib.Path) -> None:
    rows = build_rows(plan_of(), [*few, few[0]])
    write_rows(rows, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for split, examples in rows.splits.items():
        assert manifest["splits"][split] == {"rows": len(examples), "families": 1}
        assert len((tmp_path / f"{split}.jsonl").read_text().splitlines()) == len(examples)
    set_aside = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert manifest["quarantined"] == dict(collections.Counter(line["reason"] for line in set_aside))
    assert sum(manifest["quarantined"].values()) == len(rows.quarantined) > 0
    assert manifest["sources"] == {"corpus": {"rows": sum(map(len, rows.splits.values())), "licence": "Apache-2.0"}}


@pytest.mark.parametrize(
    ("name", "change", "part"),
    [
        ("train.jsonl", lambda text: text.replace("please", "PLEASE", 1), "train.jsonl changed since"),
        ("test.jsonl", lambda text: text[:-5], "test.jsonl changed since"),
        ("validation.jsonl", None, "holds no readable data"),
        ("manifest.json", None, "holds no readable data"),
        ("manifest.json", lambda text: text[:-5], "holds no readable data"),
        ("manifest.json", lambda text: "[]", "holds no readable data"),
        ("manifest.json", lambda text: text.replace('"format": 1', '"format": 0'), "another version"),
    ],
)
def test_damaged_data_is_refused(
    name: str,
    change: Callable[[str], str] | None,
    part: str,
    few: list[Family],
    plan_of: PlanOf,
    tmp_path: pathlib.Path,
) -> None:
    write_rows(build_rows(plan_of(), few), tmp_path)
    path = tmp_path / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=part):
        read_rows(tmp_path)


def test_existing_data_is_that_of_the_newest_complete_run(
    few: list[Family], plan_of: PlanOf, tmp_path: pathlib.Path
) -> None:

    assert find_existing_data(tmp_path) is None
    for age, name in enumerate(("new", "old")):
        write_rows(build_rows(plan_of(), few), tmp_path / name / "data")
        os.utime(tmp_path / name / "data" / "manifest.json", (1e9 - age, 1e9 - age))
    (tmp_path / "torn" / "data").mkdir(parents=True)
    (tmp_path / "torn" / "data" / "train.jsonl").write_text("{")
    assert find_existing_data(tmp_path) == tmp_path / "new" / "data"
    (tmp_path / "new" / "data" / "personal.jsonl").write_text("")  # a run that learned from its owner
    assert find_existing_data(tmp_path) == tmp_path / "old" / "data"


def test_no_variant_has_the_form_of_a_held_out_command(plan_of: PlanOf) -> None:
    families = load_families()
    held_out = [form_of(family) for family in families if family.split != "train"]
    rows = build_rows(plan_of("--augmented-copies", "0", "--explanation-share", "0"), families).splits["train"]
    variants = [row for row in rows if row.id.endswith(("/place", "/ending"))]
    assert len(variants) > 1000
    assert not [row.answer for row in variants if any(form.fullmatch(row.answer) for form in held_out)]


def test_the_estimate_of_a_plan_is_near_what_is_built(plan_of: PlanOf) -> None:
    plan = plan_of("--composed-rows", "500", "--augmented-copies", "1")
    built = len(build_rows(plan).splits["train"])
    assert abs(estimate_training_rows(plan) / built - 1) < 0.1
