"""Builds the rows of a run: corpus families, split by family, rendered, augmented, cleaned, counted.

Takes a plan; gives `data/{train,validation,test}.jsonl` and, last, `data/manifest.json`. The same seed gives the same bytes.
"""

from __future__ import annotations

import array
import dataclasses
import itertools
import pathlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from overseer_training.config.plan import Plan
from overseer_training.data.augment import COUNTED, Variable, find_variables, put_quotes, redraw
from overseer_training.data.balance import missing_rows, repeated, times_of_same
from overseer_training.data.clean import HELD_OUT, SetAside, clean
from overseer_training.data.compose import compose
from overseer_training.data.misspell import misspell
from overseer_training.data.row_file import SPLITS, Admit, RowFile, accept, write_rows
from overseer_training.data.sources import help_rows, history, manual, tldr
from overseer_training.data.sources.advice import SafetyCase, load_safety_cases, load_tools, render_safety_case
from overseer_training.data.sources.corpus import (
    REDRAWN,
    Family,
    Forms,
    Split,
    fill,
    load_families,
    render,
    render_explanation,
)
from overseer_training.data.sources.dialogues import load_dialogues, render_dialogue
from overseer_training.data.sources.kaggle import store as kaggle
from overseer_training.data.sources.pairs import NoPair, count_pairs, read_pairs
from overseer_training.data.sources.repairs import load_repairs, render_repair
from overseer_training.data.sources.safety_frames import DRESSED_SHARE, INJECTED_ROWS, dressed_rows, injected_rows
from overseer_training.data.tools.rows import choice_rows, tools_on
from overseer_training.data.variants import at_a_place, with_an_ending
from overseer_training.errors import DataError
from overseer_training.records import Example, Platform, Turn

PLATFORMS: tuple[Platform, ...] = ("linux", "macos")
VARIANTS = ("/place", "/ending")  # ends of ids
HELD_OUT_PREDICTIONS = 30  # training questions about telemetry for one that validates or tests


def build_rows(
    plan: Plan,
    folder: pathlib.Path,
    families: list[Family] | None = None,
    taught: Sequence[Example] = (),
    recordings: Sequence[Any] = (),
    sources: Sequence[str] = (),
    admit: Admit = accept,
) -> dict[str, RowFile]:
    """All rows that `plan` asks for, written to `folder` in an order that depends on the seed alone.

    Args:
        families: only these; the whole corpus with its other skills and the plan's sources if None.
        taught: rows that teachers wrote.
        recordings: `telemetry.recordings.Recording`s of real machines, for questions about telemetry.
        sources: further ones, beside the plan's.
        admit: see `row_file.Admit`.
    """
    rng = random.Random(plan.seed)
    chosen = load_families() if families is None else families
    unvaried = {family.name for family in chosen if not find_variables(family)}
    places: dict[str, array.array[int]] = {}
    same = array.array("q")  # places of commands of which no other copies can be made
    with write_rows(folder) as writer:

        def add_again(place: int, time: int) -> int:
            row = writer.read("train", place)
            return writer.add("train", dataclasses.replace(row, id=f"{row.id}/again-{time}"))

        for kept in clean(*_made_rows(plan, rng, chosen, families is None, taught, recordings, sources)):
            if isinstance(kept, SetAside):
                writer.set_aside(kept)
                continue
            split, row = kept
            place = writer.add(split, row)
            if split == "train":
                places.setdefault(row.skill, array.array("q")).append(place)
                if row.skill == "command" and row.family in unvaried and not row.id.endswith(VARIANTS):
                    same.append(place)
        for place in same:
            places["command"].extend(add_again(place, time) for time in range(1, times_of_same(plan.augmented_copies)))
        for place, time in repeated(places, plan.least_skill_share, {"safety": plan.safety_share}, rng):
            add_again(place, time)
        admit(writer.training_sources)
    return writer.rows(folder)


def _made_rows(
    plan: Plan,
    rng: random.Random,
    chosen: Sequence[Family],
    is_whole: bool,
    taught: Sequence[Example],
    recordings: Sequence[Any],
    sources: Sequence[str],
) -> tuple[Iterator[Example | NoPair], dict[Split, list[Example]]]:
    """Rows as they are before any is set aside: those of training one by one, and the held-out ones by split.

    Args:
        is_whole: with the other skills and the plan's sources, not of the families alone.
    """
    own: dict[Split, list[Example]] = {split: [] for split in SPLITS}  # of families, and of the other skills
    others: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    held_out = Forms(family for family in chosen if family.split != "train")
    for family in chosen:
        own[family.split] += list(_family_rows(family, plan, rng, held_out))
    if not is_whole:
        streams: list[Iterable[Example | NoPair]] = [_drain(own["train"]), taught]
    else:
        _add_other_skills(others, chosen, plan)
        asked = {split: _predictions(plan, split, recordings) for split in SPLITS}
        streams = [
            _drain(own["train"]),
            compose(plan.composed_rows, rng, held_out, plan.macos_share, plan.misspelt_share),
            _drain(others["train"]),
            *(read_source(source) for source in (*plan.sources, *sources)),
            _drain(asked["train"]),
            taught,
        ]
        for split in HELD_OUT:
            others[split] += asked[split]
    return itertools.chain.from_iterable(streams), {split: own[split] + others[split] for split in HELD_OUT}


def _predictions(plan: Plan, split: Split, recordings: Sequence[Any]) -> list[Example]:
    """Questions about telemetry."""
    from overseer_training.telemetry import examples as telemetry  # numpy: `--plan` does without

    number = plan.prediction_rows if split == "train" else plan.prediction_rows // HELD_OUT_PREDICTIONS
    return telemetry.examples(number, plan.seed, split, recordings) if number else []


def _drain(rows: list[Example]) -> Iterator[Example]:
    """`rows` in their order, each let go of once it is given: what comes behind them may be many more."""
    rows.reverse()
    while rows:
        yield rows.pop()


def _add_other_skills(splits: dict[Split, list[Example]], families: Sequence[Family], plan: Plan) -> None:
    split_of_family = {family.name: family.split for family in families}
    for number, repair in enumerate(load_repairs()):
        if repair.family in split_of_family:
            splits[split_of_family[repair.family]].append(render_repair(repair, number))
    for dialogue in load_dialogues():
        splits[dialogue.split] += render_dialogue(dialogue)
    shares: dict[Platform, float] = {"linux": 1 - plan.macos_share, "macos": plan.macos_share}
    tools = tools_on([platform for platform, share in shares.items() if share > 0], load_tools())
    split_of_tool = {f"tool/{tool.name}": tool.split for tool in tools}
    for row in choice_rows(tools, plan.seed):
        splits[split_of_tool[row.family]].append(row)
    cases = load_safety_cases()
    for case in cases:
        splits[case.split] += render_safety_case(case)
    training = [family for family in families if family.split == "train"]
    splits["train"] += injected_rows(training, INJECTED_ROWS, plan.seed, plan.macos_share)
    splits["train"] += dressed_rows([case for case in cases if case.split == "train"], DRESSED_SHARE, plan.seed)


def read_source(name: str) -> Iterator[Example | NoPair]:
    """The rows of a further source one by one, with what could not be used among them.

    Args:
        name: `tldr`, `history`, `manual`, `help` and `kaggle` (what was proved or downloaded before), or the path of a file of pairs.

    Raises:
        DataError: it is not there.
    """
    if name == "tldr":
        folder = tldr.find_cache()
        if folder is None:
            raise DataError("--sources tldr: no tldr client has a cache here; install one and run `tldr --update`")
        return tldr.read_pages(folder)
    if name == "history":
        histories = history.find_histories()
        if not histories:
            raise DataError("--sources history: there is no history of bash, zsh, fish or atuin in this home directory")
        commands = dict.fromkeys(command for found in histories for command in history.read_commands(found))
        return history.rows_from_commands(list(commands), load_families())
    if name == "manual":
        pages = manual.find_pages()
        if not pages:
            raise DataError("--sources manual: this machine has no manual pages; install them (man-db on Debian)")
        return manual.read_pages(pages)
    if name == "help":
        return iter(help_rows.read_rows())
    if name == "kaggle":
        return kaggle.read_rows()
    return read_pairs(pathlib.Path(name).expanduser())


def estimate_training_rows(plan: Plan) -> int:
    """About how many rows an epoch has, without making them: for plans. Variants and rows that are set aside are left out."""
    families = load_families()
    trained = {family.name for family in families if family.split == "train"}
    rows = {
        "command": plan.composed_rows + sum(count_pairs(read_source(source))[0] for source in plan.sources),
        "explanation": 0,
        "prediction": plan.prediction_rows,
        "repair": sum(repair.family in trained for repair in load_repairs()),
        "dialogue": sum(len(list(render_dialogue(one))) for one in load_dialogues() if one.split == "train"),
        "tools": sum(len(tool.requests) for tool in load_tools() if tool.split == "train"),
        "safety": INJECTED_ROWS + sum(_count_safety_rows(case) for case in load_safety_cases() if case.split == "train"),
    }
    for family in families:
        on = [platform for platform in PLATFORMS if family.command_for(platform) is not None]
        share = sum(plan.macos_share if platform == "macos" else 1 - plan.macos_share for platform in on)
        if family.split == "train":
            copies = plan.augmented_copies if find_variables(family) else times_of_same(plan.augmented_copies) - 1
            rows["command"] += round(share * len(family.wordings) * (1 + copies))
            rows["explanation"] += round(share * len(family.wordings) * plan.explanation_share)
    again = missing_rows(rows, plan.least_skill_share, {"safety": plan.safety_share})
    return sum(rows.values()) + sum(again.values())


def _count_safety_rows(case: SafetyCase) -> int:
    return round(len(case.wordings) * (1 + DRESSED_SHARE * (case.expect == "refuse")))


def _family_rows(family: Family, plan: Plan, rng: random.Random, held_out: Forms) -> Iterator[Example]:
    is_train = family.split == "train"
    share = plan.macos_share

    def draw_platform() -> Platform | None:
        """For one row; None where the family does not exist on what was drawn."""
        drawn: Platform = "macos" if rng.random() < share else "linux"
        return drawn if family.command_for(drawn) is not None else None

    rendered = {platform: list(render(family, platform)) for platform in PLATFORMS}
    for number in range(len(family.wordings)):
        platform = draw_platform()
        if platform is not None:
            yield rendered[platform][number]
    if not is_train:
        return
    variables = find_variables(family)
    for number in range(len(family.wordings)):
        platform = draw_platform()
        if platform is not None and rng.random() < plan.explanation_share:
            explanation = render_explanation(family, number, platform)
            if explanation is not None:
                yield explanation
        if platform == "linux":
            yield from _variants(family, number, variables, plan.variant_share, rng, held_out)
        for copy in range(plan.augmented_copies):
            platform = draw_platform()
            if platform is None:
                continue
            binding = redraw(rng.choice(family.slots), variables, rng)
            template = family.command_for(platform)
            if template is None or binding in family.slots:
                continue
            wording = family.wordings[number]
            if rng.random() < plan.misspelt_share:
                wording = misspell(wording, template, rng)
            wording = put_quotes(wording, REDRAWN - COUNTED, rng)
            turns = (Turn("user", fill(wording, binding)), Turn("assistant", fill(template, binding)))
            yield Example(
                f"{family.name}/{number}/{platform}/copy-{copy}", family.name, "command", turns, platform, "corpus"
            )


def _variants(
    family: Family,
    number: int,
    variables: tuple[Variable, ...],
    share: float,
    rng: random.Random,
    held_out: Forms,
) -> Iterator[Example]:
    """Variants of one wording; none whose command has the form of a held-out family's: it would teach what is tested."""
    for ending, make in zip(VARIANTS, (at_a_place, with_an_ending), strict=True):
        if rng.random() < share:
            variant = make(family, number, redraw(rng.choice(family.slots), variables, rng), rng)
            if variant is not None and not held_out.match(variant[1]):
                turns = (Turn("user", variant[0]), Turn("assistant", variant[1]))
                identity = f"{family.name}/{number}/linux{ending}"
                yield Example(identity, family.name, "command", turns, "linux", "corpus")
