"""Are people served alike? The same commands asked for by eight groups of people, their accuracies, and rows that narrow the gap.

Takes `corpus/robustness/groups.yaml` and the families it names; gives tasks of the kind `bias`, their scorer, and, from its scores,
weights of groups and training rows in their style. Every task is asked once in every group, so that groups differ in the asking alone.

The figures are those of fairlearn's MetricFrame (`by_group`, `difference(method="between_groups")`), computed with numpy: fairlearn
0.15.0 brings pandas, scikit-learn and scipy, 290 MB when installed (measured), for a maximum and a minimum.

Not covered: languages other than English, and who the people are; the groups are ways of asking and names in paths.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import random
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from overseer_training.data.misspell import misspell
from overseer_training.data.sources.corpus import SLOT, Family, fill
from overseer_training.data.sources.entries import read_entries, text_problems
from overseer_training.evaluation.questions import Answer
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.evaluation.tasks.adversarial import ROBUSTNESS, CommandForms, Notify, change_words, load_frames
from overseer_training.intervals import RESAMPLES, score_outcomes, wilson_interval
from overseer_training.records import Example, Score, Turn

WRITTEN = ("native", "non_native", "terse", "polite", "misspelt", "distribution", "shell")
GROUPS = (*WRITTEN, "names")
PATHS = re.compile(r"(?:dir|file)\d*")  # slots whose values are renamed in the fixture
MISSPELT_SLIPS = 3
# What English learners often do, and what people leave out in a hurry; of words that the answer does not have.
NON_NATIVE = {"the": "", "a": "", "an": "", "which": "what", "are": "is", "have": "has", "find": "search"}
TERSE = dict.fromkeys(
    ("the", "a", "an", "please", "that", "which", "are", "is", "me", "can", "you", "i", "want", "how", "do"), ""
)
FILE_NAME = re.compile(r"(?<![\w.*-])([a-z][a-z_-]{2,})(\.[a-z]\w{0,4})(?![\w.-])")


@dataclasses.dataclass(frozen=True)
class GroupTask:
    """One family's request as each group asks for it.

    Attributes:
        family: its name; the first binding of its slots is asked for.
        wordings: group -> request with slots, for `WRITTEN`.
        names: slot -> value, for the group `names`.
    """

    family: str
    wordings: Mapping[str, str]
    names: Mapping[str, str]


def load_group_tasks(path: pathlib.Path = ROBUSTNESS / "groups.yaml") -> list[GroupTask]:
    """The tasks in groups.yaml.

    Raises:
        DataError: with every problem found.
    """
    return [
        GroupTask(entry["task"], {group: entry[group] for group in WRITTEN}, entry["names"])
        for entry, _ in read_entries(path, "task", _problems)
    ]


def add_bias_tasks(suite: Suite, families: Sequence[Family], limit: int | None = None, seed: int = 0) -> Suite:
    """`suite` with the packaged tasks of all groups; needs the packaged fixtures in it.

    A task of a family that is not in the test split is left out: its score would be of what was trained on.

    Args:
        limit: at most so many of them, drawn with `seed`, each in every group; all where None.
    """
    by_name = {family.name: family for family in families if family.split == "test"}
    entries = [entry for entry in load_group_tasks() if entry.family in by_name]
    chosen = entries if limit is None else random.Random(seed).sample(entries, min(limit, len(entries)))
    tasks = [_task(entry, by_name[entry.family], group) for entry in chosen for group in GROUPS]
    return Suite((*suite.tasks, *tasks), suite.scripts)


def _task(entry: GroupTask, family: Family, group: str) -> Task:
    shown = family.slots[0]
    binding = {**shown, **entry.names} if group == "names" else shown
    renamed = [slot for slot in shown if PATHS.fullmatch(slot) and shown[slot] != binding[slot]]
    fields = {
        "fixture": family.fixture,
        "query": fill(entry.wordings["native" if group == "names" else group], binding),
        "references": [fill(command, binding) for command in (family.command, *family.also)],
        "form": group,
        "of": family.name,
        "before": [f"mv -- {shlex.quote(shown[slot])} {shlex.quote(binding[slot])}" for slot in renamed],
    }
    return Task(f"bias/{family.name}/{group}", "bias", fields, family.name)


class BiasTasks(CommandForms):
    """Scores each group, and the largest gap between two of them."""

    def __init__(self, suite: Suite, notify: Notify) -> None:
        super().__init__(suite, "bias", notify)

    def summarize(self, answers: Sequence[Answer]) -> dict[str, Score]:
        """`bias_accuracy/GROUP`, and `bias_gap`: the accuracy of the best-served group less that of the worst.

        Only tasks that could be scored in every group count. Baselines of the gap are what equal groups would show by chance:
        `by_chance` in the mean, `by_chance_95` in all but 5 % of cases (answers of each task shuffled among the groups).
        """
        right: dict[str, dict[str, bool | None]] = {}
        for task, answer in zip(self.tasks, answers, strict=True):
            right.setdefault(task.fields["of"], {})[task.fields["form"]] = answer.equal
        groups = sorted({task.fields["form"] for task in self.tasks})
        whole = {of: by for of, by in right.items() if all(by.get(group) is not None for group in groups)}
        unscored = len(right) - len(whole)
        reasons = sorted({answer.reason for answer in answers if answer.equal is None})
        reason = "; ".join(reasons[:3])
        scores = {
            f"bias_accuracy/{group}": dataclasses.replace(
                score_outcomes([by[group] for by in whole.values()], list(whole), reason), unscored=unscored
            )
            for group in groups
        }
        if not whole:
            return {**scores, "bias_gap": Score(0, None, None, unscored, reason)}
        right_tg = np.array([[bool(by[group]) for group in groups] for by in whole.values()], dtype=np.float64)
        if not right_tg.any():  # nobody is served: that is no gap that a better model could be worse than
            return {**scores, "bias_gap": Score(0, None, None, len(right), "no command was right for any group")}
        value, interval, baseline = gap_between_groups(right_tg)
        return {**scores, "bias_gap": Score(len(whole), value, interval, unscored, reason, baseline)}


def gap_between_groups(
    right_tg: npt.NDArray[np.float64],
) -> tuple[float, tuple[float, float], dict[str, float]]:
    """Largest difference between two groups' means, its 95 % interval by resampling tasks, and what chance alone gives.

    Args:
        right_tg: (tasks, groups), 1 where the answer was right.
    """
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(right_tg), (RESAMPLES, len(right_tg)))
    resampled = np.ptp(right_tg[draws].mean(1), axis=1)
    shuffled = np.array([np.ptp(rng.permuted(right_tg, axis=1).mean(0)) for _ in range(RESAMPLES)])
    low, high = np.quantile(resampled, (0.025, 0.975))
    high = max(high, wilson_interval(0, len(right_tg))[1])  # resampling is too narrow when all values are equal
    baseline = {"by_chance": float(shuffled.mean()), "by_chance_95": float(np.quantile(shuffled, 0.95))}
    return float(np.ptp(right_tg.mean(0))), (float(low), float(high)), baseline


def group_weights(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How much of the rows for groups each group gets: in proportion to how far it is behind the best; sums to 1.

    Args:
        scores: of one model, as eval.json has them.

    Returns:
        Nothing where all groups are served alike, or the gap is no larger than chance makes it.
    """
    gap = scores.get("bias_gap", {})
    if not gap.get("value") or gap["value"] <= gap.get("baseline", {}).get("by_chance_95", 0.0):
        return {}
    values = {group: scores.get(f"bias_accuracy/{group}", {}).get("value") for group in GROUPS}
    known = {group: value for group, value in values.items() if value is not None}
    behind = {group: max(known.values()) - value for group, value in known.items() if group != "native"}
    total = sum(behind.values())
    return {group: value / total for group, value in behind.items() if value > 0} if total else {}


def group_rows(examples: Sequence[Example], weights: Mapping[str, float], number: int, seed: int) -> list[Example]:
    """At most `number` further training rows: requests for commands among `examples`, asked as the groups of `weights` ask.

    Answers stay as they are, but for the group `names`, where a file gets its new name in request and answer alike.
    """
    rng = random.Random(seed)
    sources = [example for example in examples if example.skill == "command" and len(example.turns) == 2]
    rows = []
    for example in rng.sample(sources, min(number, len(sources))) if weights else []:
        group = rng.choices(list(weights), list(weights.values()))[0]
        query, command = in_style(group, example.query, example.answer, rng)
        if query != example.query:
            turns = (Turn("user", query), Turn("assistant", command))
            rows.append(dataclasses.replace(example, id=f"{example.id}/as-{group}", turns=turns))
    return rows


def in_style(group: str, query: str, command: str, rng: random.Random) -> tuple[str, str]:
    """A request and its command as people of `group` ask; unchanged where nothing in it suits the group."""
    match group:
        case "polite" | "distribution" | "shell":
            return rng.choice(_training_frames(group)).replace("{query}", query), command
        case "misspelt":
            for _ in range(MISSPELT_SLIPS):
                query = misspell(query, command, rng)
        case "non_native" | "terse":
            changes = NON_NATIVE if group == "non_native" else TERSE
            query = change_words(f"{query} ", [command], lambda word: changes.get(word.casefold(), word))
            query = re.sub(r"(?<=\S) +(?=[ ,?.])|^ +| +$", "", query)
        case "names":
            return _rename_file(query, command, rng)
    return query, command


def _rename_file(query: str, command: str, rng: random.Random) -> tuple[str, str]:
    shared = [m for m in FILE_NAME.finditer(query) if re.search(_whole(m.group()), command)]
    if not shared:
        return query, command
    old = rng.choice(shared)
    new = rng.choice(_training_frames("names")) + old.group(2)
    return re.sub(_whole(old.group()), new, query), re.sub(_whole(old.group()), new, command)


def _whole(name: str) -> str:
    """A pattern for a file name that is no part of a longer one."""
    return rf"(?<![\w.*-]){re.escape(name)}(?![\w.-])"


@functools.cache
def _training_frames(kind: str) -> tuple[str, ...]:
    return load_frames(kind, "training")


def _problems(entry: dict[str, Any]) -> list[str]:
    problems = text_problems(entry, WRITTEN)
    names = entry.get("names")
    if not isinstance(names, dict) or not names or not all(isinstance(value, str) for value in names.values()):
        problems.append("'names' must be a mapping of slots to values")
    if problems:
        return problems
    slots = {group: set(SLOT.findall(entry[group])) for group in WRITTEN}
    problems += [
        f"{group} has the slots {sorted(found)}, native has {sorted(slots['native'])}"
        for group, found in slots.items()
        if found != slots["native"]
    ]
    if not set(names or ()) <= slots["native"]:
        problems.append(f"'names' has slots that no wording has: {sorted(set(names or ()) - slots['native'])}")
    texts = [entry[group].casefold() for group in WRITTEN]
    problems += [f"wording twice: {text!r}" for text in sorted({text for text in texts if texts.count(text) > 1})]
    return problems
