"""Composed requests: what is said is what is put."""

from __future__ import annotations

import pathlib
import random
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from overseer_training.data.augment import load_inventories
from overseer_training.data.clean import parses
from overseer_training.data.compose import Composition, compose, load_compositions
from overseer_training.data.sources.corpus import CORPUS, SLOT, Forms, load_families
from overseer_training.errors import DataError

PARTS = {
    "composition": "tiny",
    "command": "find {place}{limits}{type}{tests}{action}",
    "conditions": {1: 1},
    "values": {},
    "nouns": [{"kind": "file", "put": " -type f", "many": "files", "one": "file"}],
    "quantifiers": {"many": {"all": 1}, "one": {"every": 1}},
    "one_share": 0,
    "prepositions": {"in": 1},
    "tails": {"": 1},
    "tail_share": 0,
    "places": [{"put": "{dir}", "shape": "plain", "say": ["{dir}"]}],
    "limits": {"share": 0, "choices": []},
    "conditions_of": [{"group": "name", "choices": [{"put": " -name '*.{ext}'", "after": ["ending in .{ext}"]}]}],
    "actions": [{"say": ["list {all}"], "put": ""}],
}


def test_the_command_has_what_the_request_says() -> None:
    request, command = Composition("tiny", PARTS).draw(random.Random(0))
    request = re.sub("[\"'`]", "", request)
    said = re.fullmatch(
        r"[Ll]ist all files in (\S+) ending in \.(\w+)\.?|[Ll]ist all files ending in \.(\w+) in (\S+?)\.?", request
    )
    assert said is not None, request
    folder, extension = said[1] or said[4], said[2] or said[3]
    assert command == f"find {folder} -type f -name '*.{extension}'"


def test_contradictions_are_never_drawn() -> None:
    with pytest.raises(DataError, match="leave nothing"):
        Composition("tiny", {**PARTS, "contradictions": ["-name"]}).draw(random.Random(0))


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = (list(compose(200, random.Random(7))) for _ in range(2))
    assert first == second
    assert len({row.query for row in first}) == len(first)


def test_packaged_compositions_give_commands_that_parse_and_leave_no_slot() -> None:
    for row in compose(3000, random.Random(1)):
        assert parses(row.answer), row.answer
        rest = re.sub(r"\$\{[^}]*\}|\{\}", "", row.query + row.answer)
        assert not re.search(r"\{[a-z_]+\d?\}", rest), row
        assert "  " not in row.query and "  " not in row.answer


def test_values_in_the_request_are_those_of_the_command() -> None:
    kinds = yaml.safe_load((CORPUS / "compositions" / "find.yaml").read_text())["values"]["kind_name"]
    said = {entry["kind_ext"]: [entry["kind"]] if isinstance(entry["kind"], str) else entry["kind"] for entry in kinds}
    for row in compose(2000, random.Random(2)):
        for value in re.findall(r"-name '\*\.(\w+)'|-user (\w+)|-newer (\S+)", row.answer):
            kinds_of_file = [re.escape(kind) for kind in said.get(value[0], [])]
            is_kind = any(re.search(rf"(?<!\w){kind}(?!\w)", row.query) for kind in kinds_of_file)
            assert is_kind or any(part and part in row.query for part in value), row


def test_held_out_forms_are_left_out() -> None:
    family = next(f for f in load_families() if f.command == "find {dir} -type f -name '*.{ext}'")
    forms = Forms([family])
    assert any(forms.match(row.answer) for row in compose(500, random.Random(3)))
    assert not any(forms.match(row.answer) for row in compose(500, random.Random(3), forms))


def test_macos_gets_nothing_that_only_gnu_tools_do() -> None:
    rows = list(compose(1500, random.Random(4), macos_share=1.0))
    assert {row.platform for row in rows} == {"macos"}
    assert not any("-printf" in row.answer or "-executable" in row.answer for row in rows)


def test_every_file_has_its_parts() -> None:
    assert {composition.name for composition in load_compositions()} >= {"find"}


def test_an_ending_is_said_last_and_put_last_and_never_behind_a_question() -> None:
    ending = {"say": [" and save it to {out}"], "put": " > {out}", "values": "out"}
    actions = [{"say": ["list {all}", "which are {all}?"], "put": " | sort"}]
    parts = {
        **PARTS,
        "command": "find {place}{tests}{action}{endings}",
        "values": {"out": [{"out": "list.txt"}]},
        "actions": actions,
        "endings": [{"ending": "out", "share": 0.5, "choices": [ending]}],
    }
    rng, saved = random.Random(0), 0
    for _ in range(40):
        request, command = Composition("tiny", parts).draw(rng)
        assert request.rstrip(".").endswith(" and save it to list.txt") == command.endswith(" | sort > list.txt")
        assert not ("?" in request and ">" in command)
        saved += ">" in command
    assert 0 < saved < 40
    allowed_none = {**parts, "actions": [{**actions[0], "endings": []}]}
    assert not any(">" in Composition("tiny", allowed_none).draw(rng)[1] for _ in range(40))


def test_a_noun_has_several_ways_values_and_a_place_in_its_words() -> None:
    noun = {
        "kind": "line",
        "put": "{n}",
        "values": ["line", "word"],
        "many": ["the {nth} line of {where}", "{where}, line {n}"],
    }
    parts = {
        **PARTS,
        "command": "sed -n '{type}s/{sign}//p' {place}",
        "values": {"line": [{"n": 3, "nth": ["third", "3rd"]}], "word": [{"sign": "x"}]},
        "nouns": [noun],
        "conditions": {0: 1},
        "quantifiers": {"many": {"": 1}},
        "actions": [{"say": ["print {all}"], "put": ""}],
    }
    rng = random.Random(0)
    drawn = [Composition("tiny", parts).draw(rng) for _ in range(60)]
    assert all(re.fullmatch(r"sed -n '3s/x//p' \S+", command) for _, command in drawn)
    said = {re.sub(r" of .*| \S+, line.*", "", request.casefold()) for request, _ in drawn}
    assert said == {"print the third line", "print the 3rd line", "print"}
    assert all(request.count(command.split()[-1]) == 1 for request, command in drawn)


def test_a_file_needs_the_five_keys_that_have_no_default(tmp_path: pathlib.Path) -> None:
    needed = {key: PARTS[key] for key in ("composition", "command", "nouns", "places", "actions")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(needed))
    [composition] = load_compositions(tmp_path)
    assert re.fullmatch(r"find \S+ -type f", composition.draw(random.Random(0))[1])
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking/tiny.yaml").write_text(yaml.safe_dump({"composition": "tiny"}))
    with pytest.raises(DataError, match=r"tiny\.yaml lacks actions, command, nouns, places"):
        load_compositions(tmp_path / "lacking")


def test_numbers_of_lines_and_fields_in_the_command_are_those_of_the_request() -> None:
    ordinals = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
    ordinals |= {"ninth": 9, "tenth": 10, "twelfth": 12}
    text = [found for found in load_compositions() if found.name in {"fields", "ranges"}]
    checked = 0
    for row in compose(1500, random.Random(5), compositions=text):
        numbers = re.match(r"(?:sed -n '|cut [^|]*-f)(\d+)[,-]?(\d*)(?:p'|$| )", row.answer)
        said = {int(number) for number in re.findall(r"(?<![\w.-])\d+|(?<=-)\d+|(?<=[\d],)\d+", row.query)}
        said |= {number for word, number in ordinals.items() if word in row.query.casefold().split()}
        if numbers and "1-" not in row.answer:
            assert {int(number) for number in numbers.groups() if number} <= said, row
            checked += 1
    assert checked > 200


def test_what_is_read_as_text_has_an_extension_of_text_or_code() -> None:
    inventory = load_inventories()["ext"]
    texts = {*inventory["text"], *inventory["code"]}

    def drawn(parts: dict[str, Any]) -> set[str]:
        commands = [Composition("tiny", parts).draw(random.Random(seed))[1] for seed in range(300)]
        return {command.rpartition("*.")[2].rstrip("'") for command in commands}

    assert not drawn(PARTS) <= texts
    others = {value for group, values in inventory.items() if group not in ("text", "code") for value in values}
    for reads_text in ({"text": True}, {"actions": [{"say": ["count the lines of {all}"], "put": "", "text": True}]}):
        found = drawn({**PARTS, **reads_text})
        assert found & texts and found.isdisjoint(others)


def test_requests_that_recursive_grep_answers_are_left_to_it() -> None:
    (find,) = [composition for composition in load_compositions() if composition.name == "find"]
    rng = random.Random(6)
    commands = [find.draw(rng)[1] for _ in range(1500)]
    grepping = [command for command in commands if "-exec grep" in command]
    assert grepping
    assert not [command for command in grepping if re.search(r"-type f( -name '\*\.\w+')? -exec grep", command)]


def test_places_nouns_and_conditions_go_with_the_verbs_that_they_name() -> None:
    parts = {
        **PARTS,
        "command": "{action}{tests} {type} {place}",
        "nouns": [
            {"kind": "file", "put": "notes.txt", "many": "notes.txt"},
            {"kind": "file", "put": "data/.", "many": "the contents of data", "verbs": ["copy"]},
        ],
        "places": [
            {"put": "docs/", "say": ["to docs"], "verbs": ["copy", "move"]},
            {"put": "todo.txt", "say": ["to todo.txt"], "verbs": ["rename"]},
        ],
        "conditions_of": [
            {"group": "what is there", "choices": [{"put": " -u", "after": ["if newer"], "verbs": ["copy"]}]}
        ],
        "actions": [
            {"say": ["copy {all}"], "put": "cp", "verb": "copy"},
            {"say": ["move {all}"], "put": "mv", "verb": "move"},
            {"say": ["rename {all}"], "put": "mv", "verb": "rename"},
        ],
    }
    rng = random.Random(0)
    assert {Composition("tiny", parts).draw(rng)[1] for _ in range(200)} == {
        *("cp -u notes.txt docs/", "cp -u data/. docs/", "mv notes.txt docs/", "mv notes.txt todo.txt")
    }


def test_an_action_says_how_many_conditions_it_takes() -> None:
    parts = {**PARTS, "actions": [{"say": ["count {all}"], "put": " | wc -l", "conditions": {0: 1}}]}
    assert re.fullmatch(r"find \S+ -type f \| wc -l", Composition("tiny", parts).draw(random.Random(0))[1])


def test_a_second_condition_that_begins_with_a_conjunction_gets_no_other() -> None:
    groups = [
        {"group": "force", "choices": [{"put": " -n", "after": ["but overwrite nothing"]}]},
        {"group": "output", "choices": [{"put": " -v", "after": ["and name each"]}]},
    ]
    parts = {**PARTS, "conditions": {2: 1}, "conditions_of": groups, "place_last_share": 0.0}
    said = {Composition("tiny", parts).draw(random.Random(seed))[0].split(" ", 5)[5].rstrip(".") for seed in range(40)}
    assert said == {"but overwrite nothing, and name each", "and name each, but overwrite nothing"}


def _names(part: Mapping[str, Any], role: str) -> set[str]:
    """The fragments that `part` puts something into."""
    puts = [value for key, value in part.items() if key == "put" or key.startswith("put_")]
    return {name for put in puts for name in (put if isinstance(put, dict) else [role] if put else [])}


@pytest.mark.parametrize("composition", load_compositions(), ids=lambda composition: composition.name)
def test_no_action_loses_what_conditions_and_endings_say(composition: Composition) -> None:
    parts = composition.parts
    for action in parts["actions"]:
        template = set(SLOT.findall(action.get("command", parts["command"])))
        if action.get("without_flags"):
            template.add("flags")
        kinds = set(action.get("kinds", {noun["kind"] for noun in parts["nouns"]}))
        takes_conditions = set(action.get("conditions", parts["conditions"])) - {0}
        groups = [group for group in parts["conditions_of"] if takes_conditions and _go_together(group, action, kinds)]
        endings = [group for group in parts["endings"] if group["ending"] in action.get("endings", [group["ending"]])]
        said = [("tests", choice) for group in groups for choice in group["choices"]]
        said += [("endings", choice) for group in endings for choice in group["choices"]]
        for role, part in said:
            if _go_together(part, action, kinds):
                assert _names(part, role) <= template, (action["say"][0], part)


def _go_together(part: Mapping[str, Any], action: Mapping[str, Any], kinds: set[str]) -> bool:
    return bool(kinds & set(part.get("kinds", kinds))) and action.get("verb") in part.get("verbs", [action.get("verb")])
