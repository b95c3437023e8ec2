"""What find and xargs hand on: the call that runs for what a search finds, with the places that it begins at filled in.

Takes a `find`, `xargs` or `parallel` call; gives verdicts, and calls that are still to be judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import DOWNLOADS, REMOVES, SENDS, SHELLS, chain_of, values_of
from overseer_training.guards.commands import ENGINES
from overseer_training.guards.places import PERSONAL, place_of
from overseer_training.guards.rules.writing import written
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import Word
from overseer_training.guards.wrappers import MARK, passed_on, unwrap, with_input

TESTS = re.compile(
    r"-(?:i?name|i?path|i?wholename|i?regex|[acm]time|[acm]min|newer\w*|size|user|group|perm|empty|inum|links|nouser|nogroup|used|samefile|executable|xtype)"
)
ANY_NAME = {"*", ".*", "*.*", "?*"}
CHANGES = REMOVES | {"chmod", "chown", "chgrp", "mv", "truncate", "chattr", "setfacl", "sed", "gpg", "openssl", "cp"}
FILTERS = {"grep", "egrep", "head", "tail", "awk", "sed", "fzf"}
ENDS = {"kill", "stop", "rm", "rmi", "delete", "remove"}
LISTS = {"grep", "rg", "ag", "locate", "mdfind", "pgrep", "lsof", "du"}


def found_by_find(call: Call, folder: str) -> Iterator[Verdict | Call]:
    """`-delete`, `-exec` and the files that find writes, for everything that the search begins at."""
    texts = call.texts
    starts = _starts_of(call) or [Word("./*")]
    places = [place_of(word, folder) for word in starts]
    narrow, wide = is_narrow(call), any(place.is_critical for place in places)
    if "-delete" in texts:
        if wide and narrow and all(PERSONAL.fullmatch(place.path) for place in places):
            pass
        elif wide:
            yield (
                ask("it deletes in many places")
                if narrow
                else refuse("it deletes the system or all of somebody's files")
            )
        elif any(place.is_system for place in places):
            yield ask("it deletes files of the system")
        elif (
            not narrow and not (set(texts) & {"-maxdepth"} and "f" in texts) and any(place.is_here for place in places)
        ):
            yield ask("it deletes everything here")
        elif any(not word.is_certain and word.text.startswith("$") for word in starts) and not narrow:
            yield ask("what it deletes is only known when it runs")
    for word in values_of(call, "-fprintf", "-fprint", "-fls", "-fprint0"):
        yield from written(place_of(word, folder), word.shown, appends=False)
    for position, text in enumerate(texts):
        if text not in ("-exec", "-execdir", "-ok", "-okdir"):
            continue
        end = next((i for i in range(position + 1, len(texts)) if texts[i] in (";", "+")), len(texts))
        words = call.arguments[position + 1 : end]
        if not words:
            continue
        inner = Call(tuple(words))
        program = unwrap(inner) or inner
        if program.name in SHELLS and "-c" not in " ".join(program.texts):
            yield ask("it opens a shell from another program")
        if program.name in SENDS | DOWNLOADS:
            yield ask("it sends every file away that it finds")
        if narrow and not (wide or any(place.is_system for place in places)):
            yield with_input(inner, MARK, [Word("./found")])
        elif narrow:
            verdict_words = [Word(f"{word.text.rstrip('/*') or ''}/found") for word in starts]
            yield with_input(inner, MARK, verdict_words)
            if program.name in CHANGES and not (program.name == "sed" and "-i" not in program.texts):
                yield ask("it changes files of the system or in many places")
        else:
            yield with_input(inner, MARK, starts)


def given_by_input(call: Call, inner: Call | None, folder: str) -> Iterator[Verdict | Call]:
    """What xargs and parallel start with the words that they read."""
    marker = next((word.text for word in values_of(call, "-I", "--replace", "-i")), MARK)
    added = passed_on(call)
    if inner is None:
        if added is not None and call.name == "parallel":
            yield Call(tuple(added))
        return
    program = inner
    while (deeper := unwrap(program)) is not None:
        program = deeper
    if added is not None:
        yield with_input(inner, marker, added)
        if call.name == "parallel":
            yield from _without_marks(inner, added)
        return
    source = call.source
    if program.name in SHELLS:
        text = next((program.texts[i + 1] for i, t in enumerate(program.texts[:-1]) if re.fullmatch(r"-\w*c", t)), None)
        if text is None or text.strip() == marker or re.match(rf"\s*(?:{re.escape(marker)}|\$[@*0-9])", text):
            yield ask("it runs what another program prints")
    elif program.name == marker or program.words[0].text == marker:
        yield ask("which program runs is only known when it runs")
    if program.name == "sh" and any(word.text == "0" for word in values_of(call, "-P")):
        yield ask("it starts as many programs as it can")
    filtered = any(stage.name in FILTERS or {"-f", "--filter"} & set(stage.texts) for stage in chain_of(source))
    if source is not None and not filtered and program.name in ENGINES | {"helm"} and ENDS & set(program.texts):
        yield ask("what runs in containers stops or goes")
    if program.name not in CHANGES or source is None:
        if source is None and program.name in REMOVES:
            yield ask("what is removed is only known when it runs")
        return
    first = list(chain_of(source))[-1]
    if first.name in ("find", "fd", "ls", "tree", "locate"):
        starts = (
            _starts_of(first)
            if first.name == "find"
            else [Word(f"{w.text.rstrip('/')}/*") for w in first.arguments if not w.text.startswith("-")]
        )
        narrowed = (first.name == "find" and is_narrow(first)) or any(
            stage.name in FILTERS for stage in chain_of(source)
        )
        for word in starts or [Word("./*")]:
            place = place_of(word, folder)
            if place.is_critical or place.is_system:
                yield ask("it changes files of the system or in many places")
            elif place.is_here and not narrowed and program.name in REMOVES and first.name == "find":
                yield ask("it removes everything here")
        if not narrowed and starts:
            yield with_input(inner, marker, starts)
    elif program.name in REMOVES and not any(stage.name in FILTERS | LISTS for stage in chain_of(source)):
        yield ask("what is removed is only known when it runs")


def _without_marks(inner: Call, added: list[Word]) -> Iterator[Call]:
    words = [word for word in inner.words if word.text not in (":::", "::::") and word not in added]
    yield Call((*words, *added))


def _starts_of(call: Call) -> list[Word]:
    """The places that a `find` begins at, as everything in them."""
    starts = []
    for word in call.arguments:
        if re.match(r"-(?![HLPO])|\(|!|\\\(", word.text):
            break
        if not word.text.startswith("-"):
            starts.append(word if word.text.endswith("*") else Word(f"{word.text.rstrip('/')}/*", word.is_certain))
    return starts


def is_narrow(call: Call) -> bool:
    """Whether a `find` names more than a kind of file."""
    if "-o" in call.texts and "-true" in call.texts:
        return False
    if re.search(r"(?:^| )-type l(?: |$)", " ".join(call.texts)):
        return True
    return any(
        TESTS.fullmatch(text)
        and call.texts[position - 1] not in ("!", "-not")
        and (call.texts[position + 1] if position + 1 < len(call.texts) else "") not in ANY_NAME
        for position, text in enumerate(call.texts)
    )
