"""Requests composed of written parts: what is looked for, where, under which conditions, and what to do with it.

Takes `corpus/compositions/*.yaml`; gives rows whose command has exactly the parts that the request names, so that a small
model learns the parts and not whole sentences by heart. Knows no program: the files say how each part is said and put.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from overseer_training.data.augment import load_inventories, put_quotes
from overseer_training.data.coin import COINED_SHARE, coin, renew
from overseer_training.data.misspell import misspell
from overseer_training.data.sources.corpus import CORPUS, SLOT, Forms, fill
from overseer_training.errors import DataError
from overseer_training.records import Example, Platform, Turn

Entry = Mapping[str, Any]
SHARES = {"said_before_noun": 0.45, "place_last": 0.25, "capital": 0.6, "full_stop": 0.12}  # chosen
DRAWN = {
    "dir": "dir",
    "file": "file",
    "ext": "ext",
    "word": "word",
    "pattern": "word",
    "new": "name",
    "table": "file",
    "user": "user",
    "host": "host",
    "service": "service",
}  # slot -> inventory; a `table` comes without an extension
SHAPES = {
    "dir": ("plain", "plain", "absolute"),
    "host": ("plain", "domain", "address"),
}  # coined where no shape is asked for
DEFAULTS: Entry = {
    "conditions": {0: 1},
    "conditions_of": (),
    "quantifiers": {"many": {"": 1}, "one": {"every": 1}},
    "one_share": 0,
    "prepositions": {"in": 1},
    "tails": {"": 1},
    "tail_share": 0,
    "limits": {"share": 0, "choices": ()},
    "endings": (),
}
TRIES = 300


@dataclasses.dataclass(frozen=True)
class Composition:
    """One file of parts; corpus/README.md says what each key means."""

    name: str
    parts: Entry

    def draw(self, rng: random.Random, values: Mapping[str, str] | None = None) -> tuple[str, str]:
        """(request, command), different for each state of `rng`.

        Args:
            values: of slots, in place of drawn ones; for proofs in a fixture: then no other value is coined either.
        """
        for _ in range(TRIES):
            drawn = self._draw(rng, values)
            if drawn and not any(re.search(pattern, drawn[1]) for pattern in self.parts.get("contradictions", ())):
                return drawn
        raise DataError(f"corpus/compositions/{self.name}.yaml: its contradictions leave nothing to draw")

    def _draw(self, rng: random.Random, values: Mapping[str, str] | None) -> tuple[str, str] | None:
        noun = _pick(self.parts["nouns"], rng)
        places = [place for place in self.parts["places"] if _suits(place, noun["kind"])]
        actions = [entry for entry in self.parts["actions"] if _suits(entry, noun["kind"]) and _serves(noun, entry)]
        place, action = _pick(places, rng), _pick(actions, rng)
        if not _can_stand(place, action):
            return None
        action = self._ended(action, noun["kind"], rng)
        chosen = self._conditions(noun["kind"], place, action, rng)
        limit = self._limit(noun["kind"], place, rng)
        fragments = self._fragments(noun, place, limit, chosen, action)
        tests = fragments["tests"]
        if action.get("needs", "") not in tests or (action.get("excludes") and action["excludes"] in tests):
            return None
        if action.get("without_flags") and fragments["flags"]:
            return None
        request = self._say(noun, action, place, limit, chosen, rng)
        command = fill(action.get("command", self.parts["command"]), fragments)
        needed = dict.fromkeys(SLOT.findall(f"{request} {command}"))
        entries = [noun, place, action, *chosen, *action.get("appended", ()), *([limit] if limit else [])]
        share = COINED_SHARE if values is None else 0.0
        binding = {**self._values(entries, place, needed, share, rng), **(values or {})}
        said = {name: rng.choice(value) if isinstance(value, list) else str(value) for name, value in binding.items()}
        put = {name: str(value) for name, value in binding.items() if not isinstance(value, list)}
        return _finish(fill(put_quotes(request, DRAWN, rng), said), rng), fill(command, put)

    def _fragments(
        self, noun: Entry, place: Entry, limit: Entry | None, chosen: Sequence[Entry], action: Entry
    ) -> dict[str, str]:
        """What each part puts into the command, joined by name; one-letter options in the order that the file gives."""
        fragments = dict.fromkeys(
            ("type", "place", "limits", "tests", "action", "endings", "flags", *self.parts.get("fragments", ())), ""
        )
        roles = [("type", noun), ("place", place), ("action", action), *(("tests", choice) for choice in chosen)]
        roles += [("endings", ending) for ending in action.get("appended", ())]
        for role, part in [*roles, *([("limits", limit)] if limit else [])]:
            put = part.get(f"put_{noun['kind']}", part["put"])
            for name, text in put.items() if isinstance(put, dict) else ((role, put),):
                fragments[name] += text
        for choice in chosen:
            fragments.update(dict.fromkeys(choice.get("drops", ()), ""))
        letters = sorted(set(fragments["flags"]), key=self.parts.get("flag_order", "").index)
        return {**fragments, "flags": f" -{''.join(letters)}" if letters else ""}

    def _ended(self, action: Entry, kind: str, rng: random.Random) -> Entry:
        """`action` with what is done to its output afterwards: at most one ending of a group, in the order of the file."""
        for group in self.parts.get("endings", ()):
            says = [say for say in action["say"] if not say.endswith("?")]
            choices = [choice for choice in group["choices"] if _suits(choice, kind)]
            fits = group["ending"] in action.get("endings", (group["ending"],)) and says and choices
            if fits and rng.random() < group["share"]:
                ending = _pick(choices, rng)
                says = [say + rng.choice(ending["say"]) for say in says]
                action = {**action, "say": says, "appended": [*action.get("appended", ()), ending]}
        return action

    def _conditions(self, kind: str, place: Entry, action: Entry, rng: random.Random) -> list[Entry]:
        """In the order of the file; one of a group at most."""
        counts = action.get("conditions", self.parts["conditions"])
        number = rng.choices(list(counts), list(counts.values()))[0]
        groups = []
        for group in self.parts["conditions_of"]:
            choices = [c for c in group["choices"] if _suits(c, kind) and c.get("place") in (None, place["put"])]
            choices = [choice for choice in choices if _serves(choice, action)]
            if choices and kind in group.get("kinds", [kind]) and _serves(group, action):
                groups.append((group.get("weight", 1), choices))
        order = sorted(range(len(groups)), key=lambda i: rng.random() ** (1 / groups[i][0]), reverse=True)
        chosen = [(i, _pick(groups[i][1], rng)) for i in order[:number]]
        return [choice for _, choice in sorted(chosen, key=lambda pair: pair[0])]

    def _limit(self, kind: str, place: Entry, rng: random.Random) -> Entry | None:
        limits = self.parts["limits"]
        if rng.random() >= limits["share"] or place.get("unsaid"):
            return None
        return _pick([choice for choice in limits["choices"] if _suits(choice, kind)], rng)

    def _say(
        self, noun: Entry, action: Entry, place: Entry, limit: Entry | None, chosen: Sequence[Entry], rng: random.Random
    ) -> str:
        """The request, with slots."""
        before: list[str] = []
        after: list[str] = []
        last: list[str] = []
        for choice in chosen:
            if choice.get("before") and (not choice.get("after") or rng.random() < SHARES["said_before_noun"]):
                before.append(rng.choice(choice["before"]))
            else:
                (last if choice.get("last") else after).append(rng.choice(choice["after"]))
        before.sort(key=lambda text: "{" in text)  # "empty .txt files", not ".txt empty files"
        rng.shuffle(after)
        where = "" if place.get("unsaid") else rng.choice(place["say"])
        clauses = _join(after, rng)
        template = rng.choice([s for s in action["say"] if where or "{where}" not in s])
        one = "{all}" in template and "them" not in template and rng.random() < self.parts["one_share"]
        named = noun["one"] if one else noun["many"]
        named = named if isinstance(named, str) else rng.choice(named)
        there = self._where(where, place, limit, rng) if "{where}" not in template + named else ""
        if limit and not there:  # a limit is part of the words for the place
            return self._say(noun, {**action, "say": [s for s in action["say"] if "{where}" not in s]}, place, limit, chosen, rng)  # fmt: skip
        if clauses and there and rng.random() < self.parts.get("place_last_share", SHARES["place_last"]):
            behind = [clauses, there, *last]
        else:
            behind = [there, clauses, *last]
        what = " ".join([*before, fill(named, {"where": where}), *filter(None, behind)])
        quantifiers = self.parts["quantifiers"]["one" if one else "many"]
        quantifier = rng.choices(list(quantifiers), list(quantifiers.values()))[0]
        return fill(template, {"all": f"{quantifier} {what}".strip(), "what": what, "things": what, "where": where})

    def _where(self, where: str, place: Entry, limit: Entry | None, rng: random.Random) -> str:
        if not where:
            return ""
        if limit:
            name = rng.choice([text for text in place["say"] if text not in place.get("tree", ())])
            return fill(rng.choice(limit["say"]), {"where": name})
        prepositions, tails = self.parts["prepositions"], self.parts["tails"]
        preposition = rng.choices(list(prepositions), list(prepositions.values()))[0]
        has_tail = not place.get("whole") and "tree" not in where and rng.random() < self.parts["tail_share"]
        tail = rng.choices(list(tails), list(tails.values()))[0] if has_tail else ""
        return f"{'in' if place.get('whole') or (' and ' in preposition and tail) else preposition} {where}{tail}"

    def _values(
        self, entries: Sequence[Entry], place: Entry, needed: Iterable[str], coined_share: float, rng: random.Random
    ) -> dict[str, Any]:
        """A value for each slot; a list where there are several ways to say it.

        Args:
            needed: names of slots that inventories fill, unless the entries' own values do.
            coined_share: of values that are no inventory's.
        """
        binding: dict[str, Any] = {}
        for entry in entries:
            names = entry.get("values", ())
            for name in (names,) if isinstance(names, str) else names:
                values = rng.choice(self.parts["values"][name])
                binding |= renew(values, rng) if rng.random() < coined_share else values
        is_text = any(entry.get("text") for entry in (self.parts, *entries))
        taken: set[str] = set()
        for slot in needed:
            kind = slot.rstrip("0123456789")
            if slot in binding or kind not in DRAWN:
                continue
            shape = place.get("shape", "plain") if kind == "dir" and slot != "dir3" else None
            if kind == "ext" and is_text:
                shape = "text"
            value = _draw(DRAWN[kind], shape, coined_share, rng)
            while value in taken:
                value = _draw(DRAWN[kind], shape, coined_share, rng)
            taken.add(value)
            binding[slot] = f"{value}.{rng.choice(load_inventories()['ext']['text'])}" if kind == "file" else value
        return binding


def _draw(kind: str, shape: str | None, coined_share: float, rng: random.Random) -> str:
    """A value of an inventory, or a coined one."""
    if rng.random() < coined_share:
        coined = coin(kind, shape or rng.choice(SHAPES.get(kind, ("",))), rng)
        if coined is not None:
            return coined
    return rng.choice(_inventory(kind, shape))


@functools.cache
def _inventory(kind: str, shape: str | None) -> tuple[str, ...]:
    """All values of a kind; of one shape where that is given. A directory of no shape is not nested; source code is text."""
    shapes = load_inventories()[kind]
    if kind == "ext" and shape == "text":
        return shapes["text"] + shapes["code"]
    if kind == "dir" and shape is None:
        return shapes["plain"] + shapes["absolute"]
    return shapes[shape] if shape is not None else tuple(value for values in shapes.values() for value in values)


@functools.cache
def load_compositions(folder: pathlib.Path = CORPUS / "compositions") -> tuple[Composition, ...]:
    """All compositions, in the order of file names.

    Raises:
        DataError: a file is not valid YAML or lacks a part.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            parts = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            missing = {"composition", "command", "nouns", "places", "actions"} - set(parts)
        except (yaml.YAMLError, TypeError) as error:
            raise DataError(f"{path} is not a readable composition: {' '.join(str(error).split())}") from error
        if missing:
            raise DataError(f"{path} lacks {', '.join(sorted(missing))}")
        found.append(Composition(parts["composition"], {**DEFAULTS, **parts}))
    return tuple(found)


def compose(
    number: int,
    rng: random.Random,
    held_out: Forms | None = None,
    macos_share: float = 0.0,
    misspelt_share: float = 0.0,
    compositions: Sequence[Composition] | None = None,
) -> Iterator[Example]:
    """Up to `number` rows: no request twice, no command of a form that is held out, nothing for macOS that only GNU tools do."""
    every = load_compositions() if compositions is None else compositions
    seen: set[str] = set()
    weights = [composition.parts.get("weight", 1) for composition in every]
    for position in range(number):
        composition = rng.choices(every, weights)[0]
        request, command = composition.draw(rng)
        platform: Platform = "macos" if rng.random() < macos_share else "linux"
        is_gnu = any(re.search(pattern, command) for pattern in composition.parts.get("gnu", ()))
        if request in seen or (platform == "macos" and is_gnu) or (held_out is not None and held_out.match(command)):
            continue
        seen.add(request)
        if rng.random() < misspelt_share:
            request = misspell(request, command, rng)
        yield Example(
            id=f"compose/{composition.name}/{position}/{platform}",
            family=f"compose-{composition.name}",
            skill="command",
            turns=(Turn("user", request), Turn("assistant", command)),
            platform=platform,
            source="corpus",
        )


def _pick(entries: Sequence[Entry], rng: random.Random) -> Entry:
    return rng.choices(entries, [entry.get("weight", 1) for entry in entries])[0]


def _suits(entry: Entry, kind: str) -> bool:
    return kind in entry.get("kinds", (kind,))


def _serves(entry: Entry, action: Entry) -> bool:
    """Whether `entry` goes with what the action does, where it says which verbs it goes with."""
    return action.get("verb") in entry.get("verbs", (action.get("verb"),))


def _can_stand(place: Entry, action: Entry) -> bool:
    """Nothing is changed in the whole file system; an action may be for one place, for one file or for several only."""
    return (
        not (place.get("whole") and action.get("changes"))
        and _serves(place, action)
        and action.get("place") in (None, place["put"])
        and not (action.get("several") and not place.get("several"))
        and not (action.get("single") and place.get("several"))
        and not (action.get("one_file") and not place.get("one_file"))
    )


def _join(clauses: Sequence[str], rng: random.Random) -> str:
    joint = rng.choice((" and ", " and ", ", ", " and also "))
    text = "".join(clauses[:1])
    for clause in clauses[1:]:
        text += (", " if clause.startswith(("and ", "but ")) else joint) + clause
    return text


def _finish(request: str, rng: random.Random) -> str:
    text = " ".join(request.split())
    if rng.random() < SHARES["capital"]:
        text = text[0].upper() + text[1:]
    return text + "." if text[-1] not in "?.'\"/~" and rng.random() < SHARES["full_stop"] else text
