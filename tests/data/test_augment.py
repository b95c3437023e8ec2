"""Re-drawn values: what may vary varies, in request and command alike, and nothing else does."""

from __future__ import annotations

import pathlib
import random
import re
from collections.abc import Callable, Iterator

import pytest

from overseer_training.data.augment import (
    EXTENSION,
    find_variables,
    load_inventories,
    redraw,
)
from overseer_training.data.coin import FAMILY_NAMES
from overseer_training.data.sources.corpus import CORPUS, Family, fill, is_redrawn, load_families
from overseer_training.errors import DataError

FamilyOf = Callable[..., Family]


def drawn(family: Family, binding: dict[str, str] | None = None, count: int = 300) -> list[dict[str, str]]:
    rng = random.Random(0)
    variables = find_variables(family)
    return [redraw(binding or family.slots[0], variables, rng) for _ in range(count)]


def values(family: Family, slot: str) -> set[str]:
    return {binding[slot] for binding in drawn(family)}


def with_slots(family_of: FamilyOf, command: str, *slots: dict[str, str], wording: str = "do") -> Family:
    names = " ".join(f"{{{name}}}" for name in slots[0])
    return family_of(command=command, slots=slots, wordings=(f"{wording} {names}",))


def test_values_change_and_other_slots_stay(family_of: FamilyOf) -> None:
    family = with_slots(family_of, "find {dir} -size +{size}", {"dir": "videos", "size": "10M"})
    assert len(values(family, "dir")) > 20
    assert values(family, "size") == {"10M"}


def test_a_fixed_slot_stays(family_of: FamilyOf) -> None:
    assert values(family_of(fixed=frozenset({"dir"})), "dir") == {"videos"}


@pytest.mark.parametrize(
    ("old", "extension"),
    [
        ("a.txt", ".txt"),
        ("logs/a.tar.gz", ".tar.gz"),
        ("a.log.1", ".log.1"),
        ("a.log.1.gz", ".log.1.gz"),
        ("access.log-20240501.gz", ".log-20240501.gz"),
        ("dump.sql.xz", ".sql.xz"),
        ("code_1.95.1_amd64.deb", ".deb"),
        ("photo.2024.jpg", ".jpg"),
        ("a.conf.bak", ".conf.bak"),
    ],
)
def test_a_file_keeps_its_extension(old: str, extension: str, family_of: FamilyOf) -> None:
    found = values(with_slots(family_of, "cat {file}", {"file": old}), "file")
    assert len(found) > 20
    assert all(value.endswith(extension) and not value.removesuffix(extension).endswith(".") for value in found)
    assert all(EXTENSION.search(value) for value in found)


@pytest.mark.parametrize(
    "old",
    [
        "Makefile",
        ".env",
        ".ssh/config",
        "my plan.txt",
        "*.txt",
        "~/a.txt",
        "/etc/fstab.bak",
        "core.1234",
        "$HOME/a.txt",
        "it's.txt",
    ],
)
def test_a_file_whose_name_says_more_stays(old: str, family_of: FamilyOf) -> None:
    assert values(with_slots(family_of, "cat {file}", {"file": old}), "file") == {old}


@pytest.mark.parametrize("old", [".", "..", "~", "~/work", "*", "my dir", "$HOME", "logs/*"])
def test_a_directory_that_says_more_than_a_name_stays(old: str, family_of: FamilyOf) -> None:
    assert values(with_slots(family_of, "ls {dir}", {"dir": old}), "dir") == {old}


def test_a_bare_name_stays_bare(family_of: FamilyOf) -> None:
    """`-name a/b` and `--exclude-dir=/x` match nothing: a family that shows bare names may need them."""
    for slot, old in (("dir", "node_modules"), ("file", "a.txt"), ("branch", "hotfix")):
        family = with_slots(family_of, f"find . -name {{{slot}}}", {slot: old}, {slot: old.replace("o", "u")})
        assert not any("/" in value for value in values(family, slot))


def test_paths_are_nested_or_absolute_only_where_the_family_has_such(family_of: FamilyOf) -> None:
    nested = values(with_slots(family_of, "ls {dir}", {"dir": "src"}, {"dir": "src/api"}), "dir")
    assert any("/" in value for value in nested) and not any(value.startswith("/") for value in nested)
    absolute = values(with_slots(family_of, "sudo ls {dir}", {"dir": "/var/log"}), "dir")
    assert len(absolute) > 5 and all(value.startswith("/") for value in absolute)
    files = values(with_slots(family_of, "cat {file}", {"file": "logs/a.txt"}), "file")
    assert {"/" in value for value in files} == {True, False}


def test_numbers_keep_their_magnitude(family_of: FamilyOf) -> None:
    assert all(len(value) == 1 for value in values(with_slots(family_of, "tree -L {n}", {"n": "2"}, {"n": "3"}), "n"))
    assert all(int(value) >= 1024 for value in values(with_slots(family_of, "nc -l {port}", {"port": "8080"}), "port"))
    assert "1" not in values(
        with_slots(family_of, "find -mtime -{days}", {"days": "7"}, wording="last {days} days"), "days"
    )


@pytest.mark.parametrize(
    ("old", "pattern"), [("web01", r"[\w-]+"), ("10.0.0.5", r"[\d.]+"), ("mail.example.org", r"[\w-]+(\.[\w-]+)+")]
)
def test_an_address_stays_an_address_and_a_name_a_name(old: str, pattern: str, family_of: FamilyOf) -> None:
    found = values(with_slots(family_of, "ping {host}", {"host": old}), "host")
    assert len(found) > 2 and all(re.fullmatch(pattern, value) for value in found)


def test_an_extension_stays_among_its_kind(family_of: FamilyOf) -> None:
    inventory = load_inventories()["ext"]
    code = values(with_slots(family_of, "grep x *.{ext}", {"ext": "py"}), "ext")
    others = (set(values) for group, values in inventory.items() if group != "code")
    assert code & set(inventory["code"]) and all(code.isdisjoint(other) for other in others)
    assert values(with_slots(family_of, "play *.{ext}", {"ext": "mkv"}), "ext") <= set(inventory["media"])
    assert values(with_slots(family_of, "rm *.{ext}", {"ext": "unheard"}), "ext") == {"unheard"}
    assert values(with_slots(family_of, "ls *.{ext}", {"ext": "JPG"}), "ext") == {
        "JPG"
    }  # its family is about the capitals


def test_two_slots_never_share_a_value_or_lie_within_each_other(family_of: FamilyOf) -> None:
    """`rsync -a data/ data/raw/` copies a folder into itself."""
    family = with_slots(family_of, "rsync -a {dir}/ {dir2}/", {"dir": "src", "dir2": "mirror/new"})
    for binding in drawn(family, count=3000):
        one, other = binding["dir"].split("/"), binding["dir2"].split("/")
        assert not set(one) & set(other)
    family = with_slots(family_of, "cp {file} {name}.txt", {"file": "poem.txt", "name": "result"})
    assert all(binding["file"] != f"{binding['name']}.txt" for binding in drawn(family, count=3000))


def test_values_that_hang_together_stay(family_of: FamilyOf) -> None:
    binding = {"file": "report.txt", "name": "report"}
    assert drawn(with_slots(family_of, "cp {file} {name}", binding), count=50) == [binding] * 50
    binding = {"dir": "logs", "file": "logs/app.log"}
    assert drawn(with_slots(family_of, "mv {file} {dir}", binding), count=50) == [binding] * 50


def test_a_part_of_a_word_does_not_tie_two_values(family_of: FamilyOf) -> None:
    family = with_slots(family_of, "find {dir} -name '*.{ext}'", {"dir": "logs", "ext": "log"})
    assert len(values(family, "dir")) > 20 and len(values(family, "ext")) > 10


def test_a_value_is_no_word_that_the_request_has_anyway(family_of: FamilyOf) -> None:
    wording = "Backup the data of the reports in"
    family = with_slots(
        family_of, "tar -czf {name}.tar.gz {dir} --exclude cache", {"dir": "site", "name": "wonder"}, wording=wording
    )
    assert not {"backup", "data", "reports", "cache"} & (values(family, "dir") | values(family, "name"))


def test_other_names_are_coined_where_every_wording_says_them(family_of: FamilyOf) -> None:
    family = with_slots(family_of, "tmux attach -t {session}", {"session": "main"})
    assert len(values(family, "session")) > 20
    tied = with_slots(family_of, "kill {pid}", {"pid": "104", "pid_words": "hundred and four"})
    assert values(tied, "pid") == {"104"}
    setting = with_slots(family_of, "sysctl {key}", {"key": "vm.swappiness"})
    assert values(setting, "key") == {"vm.swappiness"}


def test_the_same_seed_draws_the_same(family_of: FamilyOf) -> None:
    assert drawn(family_of()) == drawn(family_of())


# Over the packaged corpus.


def corpus_draws() -> Iterator[tuple[Family, dict[str, str], dict[str, str]]]:
    rng = random.Random(3)
    for family in (family for path in sorted(CORPUS.glob("commands/*.yaml")) for family in load_families(path)):
        variables = find_variables(family)
        for binding in family.slots[:3]:
            yield family, binding, redraw(binding, variables, rng)


def test_redrawn_rows_of_the_corpus_are_sound() -> None:
    changed = 0
    for family, old, new in corpus_draws():
        assert list(new) == list(old)
        kept = [name for name in old if new[name] == old[name]]
        moved = [name for name in old if name not in kept]
        changed += bool(moved)
        assert all((is_redrawn(name) or name in FAMILY_NAMES) and name not in family.fixed for name in moved), (
            family.name
        )
        assert all(re.fullmatch(r"[~.]?[\w./+ -]+", new[name]) for name in moved), family.name
        assert len({new[name] for name in moved}) == len(moved), family.name
        command = fill(family.command, new)
        for name in moved:
            if f"{{{name}}}" in family.command:
                assert new[name] in command
                assert all(new[name] in fill(wording, new) for wording in family.wordings), family.name
    assert changed > 500


# The inventories.


def test_the_inventories_hold_plain_words_of_every_kind() -> None:
    inventories = load_inventories()
    assert {
        "dir",
        "file",
        "ext",
        "name",
        "word",
        "n",
        "days",
        "user",
        "host",
        "port",
        "service",
        "package",
        "branch",
    } <= set(inventories)
    for kind, shapes in inventories.items():
        assert is_redrawn(kind)
        found = [value for group in shapes.values() for value in group]
        assert len(found) == len(set(found)) > 10, kind
        assert not {"True", "False", "None"} & set(found), kind


@pytest.mark.parametrize(
    "text",
    [
        "word: [a, true]",
        "word: [null]",
        "word: ['two words']",
        "word: [1.5]",
        "dir: ['~/x']",
        "word: 3",
        "- a",
        "{",
        "",
    ],
)
def test_an_inventory_that_yaml_reads_otherwise_is_refused(text: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "inventories.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"^[^\n]+$"):
        load_inventories(path)
