"""The one style of corpus/README.md: equal requests get equal commands, so every taught command keeps to one form."""

from __future__ import annotations

import random
import re

import pytest

from overseer_training.data.compose import load_compositions
from overseer_training.data.sources.advice import load_safety_cases
from overseer_training.data.sources.corpus import load_families
from overseer_training.data.sources.dialogues import load_dialogues

GREP_LETTERS = "rhivwxncLloE"
OTHER_FORMS = {
    "head and tail take -n N": r"\b(?:head|tail) -n?\d",
    "names for find stand in single quotes": r"\bfind [^|]*-i?name (?:\"(?!\$)|[^'\"$])",
    "find negates with -not": r"\bfind [^|]* ! ",
    "find names its place": r"(?:^|[|;&(] ?)find -(?![LPHE] )",
    "cut has delimiter and fields glued": r"\bcut (?:--complement )?-[dfc] ",
    "awk has its separator glued": r"\bawk -F ",
    "sort has delimiter and key glued": r"\bsort (?:-\w+ )*-[tk] ",
    "sort is reversed by -rn": r"\bsort -nr\b",
    "paste has its delimiter glued": r"\bpaste -s?d ",
    "options of grep stand before the pattern": r"grep [^|]*'[^'|]+' (?!-)[^|]*--(?:include|exclude)",
    "patterns of files stand in quotes": r"--(?:include|exclude)(?:-dir)?=[^'\"]",
    "dates in names stand in double quotes": r" [\w{}./-]+\$\(date",
    "the slash stands inside the quotes": r"\"\$\w+\"/ ?(?:$|[;&|])",
    "du takes -d N": r"--max-depth",
    "errors go to 2>/dev/null": r"2> /dev/null",
    "a blank stands before a file that is written": r"(?<=[\w'\"}]) >[\w~/{]",
    "tar has a dash": r"(?:^|[|;&'] ?)tar [a-z]",
}


def problems_of(command: str) -> list[str]:
    """What of the one style `command` does not keep to."""
    found = [rule for rule, pattern in OTHER_FORMS.items() if re.search(pattern, command)]
    for letters in re.findall(r"\bz?grep -([A-Za-z]{2,})\b", command):
        if set(letters) <= set(GREP_LETTERS) and [*letters] != sorted(letters, key=GREP_LETTERS.index):
            found.append("letters of grep have one order")
    return found


@pytest.mark.parametrize(
    "command",
    [
        "ls | head -5",
        'find . -name "*.c"',
        "find . ! -name '*.c'",
        "find -name '*.c'",
        "cut -d ',' -f 2 a.csv",
        "awk -F ',' '{print $1}' a.csv",
        "sort -t ',' -k 2 a.csv",
        "sort -nr a",
        "ls | paste -sd ',' -",
        "grep -r 'x' . --include='*.c'",
        "grep -r --include=*.c 'x' .",
        "tar -czf a-$(date +%F).tar.gz a",
        'for d in a b; do cp f "$d"/; done',
        "du -h --max-depth=1 .",
        "ls 2> /dev/null",
        "ls >list.txt",
        "tar czf a.tar.gz a",
        "grep -Ev 'x' a",
    ],
)
def test_another_form_is_seen(command: str) -> None:
    assert problems_of(command)


def test_families_dialogues_and_safety_answers_keep_to_one_style() -> None:
    families = [command for family in load_families() for command in (family.command, family.macos) if command]
    dialogues = [turn.command for dialogue in load_dialogues() for turn in dialogue.turns]
    answers = [case.answer.split("  #")[0] for case in load_safety_cases() if not case.answer.startswith("#")]
    assert not [(rules, command) for command in (*families, *dialogues, *answers) if (rules := problems_of(command))]


def test_composed_commands_keep_to_one_style() -> None:
    rng = random.Random(8)
    drawn = [composition.draw(rng)[1] for composition in load_compositions() for _ in range(100)]
    assert not [(rules, command) for command in drawn if (rules := problems_of(command))]
