"""Further rows of a family that are right by construction: at a place that has no name, or with an ending put behind.

Takes a family, a binding and a wording; gives (request, command) or None where the family does not suit. People say "the current
directory" far more often than they name one, and a model that only ever saw names takes `current` for a name. An ending (`> list.txt`,
`| wc -l`) is only put behind a command that prints a list and does nothing else.
"""

from __future__ import annotations

import random
import re

from overseer_training.data.sources.corpus import Family, fill

Variant = tuple[str, str]

PLACES: dict[str, tuple[str, ...]] = {
    ".": (
        "the current directory",
        "the current folder",
        "current directory",
        "this directory",
        "this folder",
        "the working directory",
        "the current working directory",
        "the present directory",
    ),
    "~": ("my home directory", "the home folder", "my home folder", "the home directory"),
    "/": ("the whole file system", "the entire file system", "the root directory", "the entire system"),
}
PLACE_WEIGHTS = (8, 2, 1)
TREES = (
    "the current directory tree",
    "the current directory and its subdirectories",
    "the current directory hierarchy",
)
TREE_SHARE = 0.3  # chosen
AT_PLACES = ("find", "grep", "rg", "ls", "du", "tree")  # what does no harm anywhere
WHOLE_TREE = ("find", "grep", "du")
HERE_WITHOUT_ARGUMENT = ("ls", "rg", "tree")  # nobody types `ls .`
NAMED_PLACE = re.compile(
    r"(?<![\w'\"/`(])(?:the )?(?:(?:folder|directory|dir|tree|path) )?\{dir\}(?: (?:folder|directory|dir|tree)\b)?(?![\w'\"/`.*-])",
    re.IGNORECASE,
)
CALLED = re.compile(r"(?i)\b(?:called|named|name|our|a|every|each)\s*$")
SLOT_ALONE = re.compile(r"(?<=\s)\{dir\}(?=\s|$)")
CHANGES = re.compile(r"-delete|-exec|-ok|xargs|>|\btee\b|-i\b|&&|;")

LISTING = re.compile(r"(?:find|grep|ls|du|ps|cut|awk|comm|getent|lsblk)\b")
NOT_A_LIST = re.compile(
    r"-delete|-exec|-ok|xargs|[>&;]|\btee\b|-print0|-printf|\s-[a-zA-Z]*[cqZz0]\b|\bfor\b|wc|head|tail|sort|uniq|\$\(|-ls\b"
)
QUESTION = re.compile(
    r"(?i)^(?:how|what|which|who|where|when|do|does|did|is|are|can|could|would)\b|\?|\bcount|\bnumber of\b|\bhow many\b"
)
FILES = ("list.txt", "out.txt", "result.txt", "files.txt", "output.log", "found.txt", "a", "b", "/tmp/list.txt", "report.txt", "names.txt")  # fmt: skip
ENDINGS: tuple[tuple[str, str], ...] = (
    (" and save the list to {file}", " > {file}"),
    (", write the output to {file}", " > {file}"),
    (" and store the result in a file {file}", " > {file}"),
    (" and append it to {file}", " >> {file}"),
    (", sorted", " | sort"),
    (" in alphabetical order", " | sort"),
    (" and print a sorted list in the file {file}", " | sort > {file}"),
    (", only the first {n}", " | head -n {n}"),
    (" and show just the first {n} lines", " | head -n {n}"),
    (" and count them", " | wc -l"),
    (", just count the lines of the result", " | wc -l"),
)


def at_a_place(family: Family, number: int, binding: dict[str, str], rng: random.Random) -> Variant | None:
    """Wording `number` with the current directory, the home or the root in place of a folder's name."""
    command, wording = family.command, family.wordings[number]
    if family.utility not in AT_PLACES or "dir" in family.fixed or "dir" not in binding:
        return None
    slots = command.count("{dir}")
    said = list(NAMED_PLACE.finditer(wording))
    if not slots or len(SLOT_ALONE.findall(command)) != slots or wording.count("{dir}") != 1 or len(said) != 1:
        return None
    if CALLED.search(wording[: said[0].start()]):
        return None
    places = PLACES if not CHANGES.search(command) else {".": PLACES["."]}
    place = rng.choices(list(places), PLACE_WEIGHTS[: len(places)])[0]
    phrase = rng.choice(PLACES[place])
    is_whole_tree = family.utility in WHOLE_TREE and "-maxdepth" not in command and "sub" not in wording
    if place == "." and is_whole_tree and rng.random() < TREE_SHARE:
        phrase = rng.choice(TREES)
    if said[0].start() == 0:
        phrase = phrase[0].upper() + phrase[1:]
    request = wording[: said[0].start()] + phrase + wording[said[0].end() :]
    if place == "." and family.utility in HERE_WITHOUT_ARGUMENT:
        command = command.replace(" {dir}", "")
    return fill(request, binding), fill(command, {**binding, "dir": place})


def with_an_ending(family: Family, number: int, binding: dict[str, str], rng: random.Random) -> Variant | None:
    """Wording `number`, saved to a file, sorted, cut short or counted."""
    command, wording = fill(family.command, binding), fill(family.wordings[number], binding).rstrip(" .!")
    if not LISTING.match(command) or NOT_A_LIST.search(command) or QUESTION.search(wording):
        return None
    # Only paths have an order that nobody asked for; of everything else the order may be the point.
    suitable = ENDINGS if command.startswith(("find ", "grep -r", "grep -l")) else ENDINGS[:4]
    said, put = rng.choice(suitable)
    values = {"file": rng.choice(FILES), "n": str(rng.randint(2, 30))}
    return wording + fill(said, values), command + fill(put, values)
