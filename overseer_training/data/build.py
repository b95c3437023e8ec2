"""Builds the rows of a run: corpus families, split by family, rendered, augmented, cleaned, counted.

Takes a plan; gives `data/{train,validation,test}.jsonl` and, last, `data/manifest.json`. The same seed gives the same bytes.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from overseer_training.config.plan import Plan
from overseer_training.data.augment import Variable, find_variables, redraw
from overseer_training.data.balance import missing_rows, repeated
from overseer_training.data.clean import Rows, clean
from overseer_training.data.compose import compose
from overseer_training.data.misspell import misspell
from overseer_training.data.sealed import Sealer, read_sealed
from overseer_training.data.sources import history, manual, tldr
from overseer_training.data.sources.advice import load_safety_cases, load_tools, render_safety_case
from overseer_training.data.sources.corpus import (
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
from overseer_training.data.sources.pairs import read_pairs
from overseer_training.data.sources.repairs import load_repairs, render_repair
from overseer_training.data.tools.rows import choice_rows
from overseer_training.data.variants import at_a_place, with_an_ending
from overseer_training.errors import DataError
from overseer_training.files import sha256, write_json, write_text
from overseer_training.records import Example, Platform, Turn

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
PLATFORMS: tuple[Platform, ...] = ("linux", "macos")
MANIFEST_FORMAT = 1
SEALED = "sealed.rows"  # encrypted: what says what the owner does
HELD_BACK = "personal.jsonl"
HELD_OUT_PREDICTIONS = 30  # training questions about telemetry for one that validates or tests
LICENCES = {"corpus": "Apache-2.0", "tldr": "CC-BY-4.0", "telemetry": "Apache-2.0"}


def build_rows(
    plan: Plan,
    families: list[Family] | None = None,
    taught: Sequence[Example] = (),
    recordings: Sequence[Any] = (),
    sources: Sequence[str] = (),
) -> Rows:
    """All rows that `plan` asks for, in an order that depends on the seed alone.

    Args:
        families: only these; the whole corpus with its other skills and the plan's sources if None.
        taught: rows that teachers wrote.
        recordings: `telemetry.recordings.Recording`s of real machines, for questions about telemetry.
        sources: further ones, beside the plan's.
    """
    chosen = load_families() if families is None else families
    rng = random.Random(plan.seed)
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    held_out = Forms(family for family in chosen if family.split != "train")
    for family in chosen:
        splits[family.split] += list(_family_rows(family, plan, rng, held_out))
    left_out: list[tuple[str, str]] = []
    if families is None:
        splits["train"] += compose(plan.composed_rows, rng, held_out, plan.macos_share, plan.misspelt_share)
        _add_other_skills(splits, {family.name: family.split for family in chosen}, plan)
        for source in (*plan.sources, *sources):
            examples, unusable = read_source(source)
            splits["train"] += examples
            left_out += [("no pair of a request and a one-line command", identity) for identity in unusable]
        from overseer_training.telemetry import examples as telemetry  # numpy: `--plan` does without

        for split in SPLITS:
            number = plan.prediction_rows if split == "train" else plan.prediction_rows // HELD_OUT_PREDICTIONS
            splits[split] += telemetry.examples(number, plan.seed, split, recordings) if number else []
    splits["train"] += taught
    rows = clean(splits, left_out)
    rows.splits["train"] += repeated(rows.splits["train"], plan.least_skill_share, rng)
    return rows


def _add_other_skills(splits: dict[Split, list[Example]], split_of_family: dict[str, Split], plan: Plan) -> None:
    for number, repair in enumerate(load_repairs()):
        if repair.family in split_of_family:
            splits[split_of_family[repair.family]].append(render_repair(repair, number))
    for dialogue in load_dialogues():
        splits[dialogue.split] += render_dialogue(dialogue)
    tools = load_tools()
    split_of_tool = {f"tool/{tool.name}": tool.split for tool in tools}
    for row in choice_rows(tools, plan.seed):
        if row.platform == "linux" or plan.macos_share > 0:
            splits[split_of_tool[row.family]].append(row)
    for case in load_safety_cases():
        splits[case.split] += render_safety_case(case)


def read_source(name: str) -> tuple[list[Example], list[str]]:
    """The rows of a further source, and the ids of what could not be used.

    Args:
        name: `tldr`, `history`, `manual`, `kaggle` (what was downloaded before), or the path of a file of pairs.

    Raises:
        DataError: it is not there.
    """
    if name == "tldr":
        folder = tldr.find_cache()
        if folder is None:
            raise DataError("--sources tldr: no tldr client has a cache here; install one and run `tldr --update`")
        return list(tldr.read_pages(folder)), []
    if name == "history":
        histories = history.find_histories()
        if not histories:
            raise DataError("--sources history: there is no history of bash, zsh, fish or atuin in this home directory")
        commands = dict.fromkeys(command for found in histories for command in history.read_commands(found))
        return list(history.rows_from_commands(list(commands), load_families())), []
    if name == "manual":
        pages = manual.find_pages()
        if not pages:
            raise DataError("--sources manual: this machine has no manual pages; install them (man-db on Debian)")
        return list(manual.read_pages(pages)), []
    if name == "kaggle":
        return kaggle.read_rows()
    return read_pairs(pathlib.Path(name).expanduser())


def estimate_training_rows(plan: Plan) -> int:
    """About how many rows an epoch has, without making them: for plans. Variants and rows that are set aside are left out."""
    families = load_families()
    trained = {family.name for family in families if family.split == "train"}
    rows = {
        "command": plan.composed_rows + sum(len(read_source(source)[0]) for source in plan.sources),
        "explanation": 0,
        "prediction": plan.prediction_rows,
        "repair": sum(repair.family in trained for repair in load_repairs()),
        "dialogue": sum(len(list(render_dialogue(one))) for one in load_dialogues() if one.split == "train"),
        "tools": sum(len(tool.requests) for tool in load_tools() if tool.split == "train"),
        "safety": sum(len(case.wordings) for case in load_safety_cases() if case.split == "train"),
    }
    for family in families:
        on = [platform for platform in PLATFORMS if family.command_for(platform) is not None]
        share = sum(plan.macos_share if platform == "macos" else 1 - plan.macos_share for platform in on)
        if family.split == "train":
            copies = plan.augmented_copies if find_variables(family) else 0
            rows["command"] += round(share * len(family.wordings) * (1 + copies))
            rows["explanation"] += round(share * len(family.wordings) * plan.explanation_share)
    return sum(rows.values()) + sum(missing_rows(rows, plan.least_skill_share).values())


def write_rows(rows: Rows, folder: pathlib.Path) -> None:
    """Write splits, quarantine and, last, the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    sealer = Sealer(_as_record)
    for split, examples in rows.splits.items():
        path = folder / f"{split}.jsonl"
        write_text(path, "".join(sealer.line_of(example) + "\n" for example in examples))
        files[path.name] = sha256(path)
    if sealer.write(folder / SEALED):
        files[SEALED] = sha256(folder / SEALED)
    quarantine = folder / "quarantine.jsonl"
    write_text(quarantine, "".join(json.dumps({"reason": r, "id": i}) + "\n" for r, i in rows.quarantined))
    skills = collections.Counter(example.skill for example in rows.splits["train"])
    sources = collections.Counter(example.source for examples in rows.splits.values() for example in examples)
    write_json(
        folder / "manifest.json",
        {
            "format": MANIFEST_FORMAT,
            "splits": {split: _counts(examples) for split, examples in rows.splits.items()},
            "training_rows_by_skill": dict(sorted(skills.items())),
            "sources": {
                name: {"rows": count, "licence": {**LICENCES, **kaggle.licences()}.get(name, "its owner's")}
                for name, count in sorted(sources.items())
            },
            "quarantined": dict(collections.Counter(reason for reason, _ in rows.quarantined)),
            "files": files,
        },
    )


def read_rows(folder: pathlib.Path) -> dict[Split, list[Example]]:
    """What `write_rows` wrote.

    Raises:
        DataError: the manifest is missing, or a file is not what it says.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != MANIFEST_FORMAT:
            raise DataError(f"{folder} was written by another version; start a new run")
        damaged = [name for name, digest in manifest["files"].items() if sha256(folder / name) != digest]
        if damaged:
            raise DataError(f"{folder}: {', '.join(damaged)} changed since the manifest was written; start a new run")
        texts = {split: (folder / f"{split}.jsonl").read_text() for split in SPLITS}
        if (folder / HELD_BACK).exists():
            texts["personal"] = (folder / HELD_BACK).read_text()  # type: ignore[index]
        sealed = read_sealed(folder / SEALED) if SEALED in manifest["files"] else []
        return {
            split: [_from_record(_unsealed(json.loads(line), sealed)) for line in text.split("\n") if line]
            for split, text in texts.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} holds no readable data: {error}") from error


def find_existing_data(runs: pathlib.Path) -> pathlib.Path | None:
    """The data folder of the newest run that has complete data, or None. Data with rows of the owner's is for the run that asked for it."""
    manifests = [path for path in runs.glob("*/data/manifest.json") if not (path.parent / HELD_BACK).exists()]
    return max(manifests, key=lambda path: path.stat().st_mtime).parent if manifests else None


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
    for kind, make in (("place", at_a_place), ("ending", with_an_ending)):
        if rng.random() < share:
            variant = make(family, number, redraw(rng.choice(family.slots), variables, rng), rng)
            if variant is not None and not held_out.match(variant[1]):
                turns = (Turn("user", variant[0]), Turn("assistant", variant[1]))
                identity = f"{family.name}/{number}/linux/{kind}"
                yield Example(identity, family.name, "command", turns, "linux", "corpus")


def _counts(examples: Iterable[Example]) -> dict[str, int]:
    examples = list(examples)
    return {"rows": len(examples), "families": len({example.family for example in examples})}


def _as_record(example: Example) -> dict[str, object]:
    return {**dataclasses.asdict(example), "turns": [turn.as_message() for turn in example.turns]}


def _unsealed(record: dict[str, Any], sealed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return dict(sealed[record["sealed"]]) if "sealed" in record else record


def _from_record(record: dict[str, object]) -> Example:
    turns = tuple(Turn(**turn) for turn in record.pop("turns"))  # type: ignore[attr-defined]
    return Example(turns=turns, **record)  # type: ignore[arg-type]
