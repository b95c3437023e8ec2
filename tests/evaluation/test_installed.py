"""Installed programs: only those that may be asked are, in the real sandbox, and only what was seen to work is taught."""

from __future__ import annotations

import pathlib
import shlex
import time

import pytest

from overseer_training.data.sources.help_rows import Row
from overseer_training.evaluation.installed import Harvest, find_programs, harvest, without_aliases
from overseer_training.evaluation.option_proof import Tried, did_something
from overseer_training.evaluation.sandbox import find_sandbox

GNU = r"""#!/bin/bash
case $1 in
  --help) printf '%s\n' 'Usage: lines [OPTION]... [FILE]...' '  -c, --count      print the number of lines' \
    '  -n, --lines=NUM  print the first NUM lines' '  -q, --quiet      print nothing at all' '  -x, --nothing    print the same again' \
    '  -e, --error      print an error message' '  -w, --warn       print lines with warnings' '      --list-kinds  list all known kinds' \
    '  -i, --in-place   remove all empty lines';;
  -c) wc -l <"$2";;
  -n) head -n "$2" "$3";;
  -e) echo wrong; exit 1;;
  -w) head -n 1 "$2"; echo careful >&2;;
  --list-kinds) echo text data;;
  -i) sed -i '/^$/d' "$2";;
  -*) cat "$2";;
  *) cat "$1";;
esac
"""
BUSYBOX = r"""#!/bin/sh
case $1 in
  -s) sort "$2";;
  -*) printf 'BusyBox v1\n\nUsage: order [-s] [FILE]...\n\n\t-s\tSort the lines of it\n' >&2; exit 1;;
  *) cat "$1";;
esac
"""
CLAP = r"""#!/bin/sh
case $1 in
  --help) printf 'Usage: tool [OPTIONS]\n\nOptions:\n  -s, --short            Show the short form\n      --as <FORM>        Print it as FORM [possible values: json, csv]\n';;
  -s) echo s;;
  --as=json) echo '{}';;
  --as=csv) echo ,;;
  *) echo long;;
esac
"""
OTHER = "#!/bin/sh\necho 'Usage: other COMMAND [FILE]...'; echo '  -a  print all of them'\n"


def write_programs(folder: pathlib.Path, programs: dict[str, str]) -> str:
    """Put `programs` into `folder`; the shell code that puts them to the same place in a sandbox."""
    folder.mkdir(exist_ok=True)
    lines = [f"mkdir -p {folder}"]
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        lines += [f"printf %s {shlex.quote(text)} >{folder / name}", f"chmod 755 {folder / name}"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    folder = tmp_path_factory.mktemp("programs") / "bin"
    build = write_programs(folder, {"lines": GNU, "order": BUSYBOX, "tool": CLAP, "other": OTHER})
    return harvest(find_sandbox(), folders=(folder,), build=build)


def commands(found: Harvest, program: str) -> list[str]:
    return [row.command for row in found.rows if row.program == program]


def test_what_an_option_does_is_proved_on_a_file(found: Harvest) -> None:
    assert [command.split()[:2] for command in commands(found, "lines")] == [
        ["lines", "-c"],
        ["lines", "-n"],
        ["lines", "--list-kinds"],
        ["lines", "-i"],
    ]
    assert "lines --list-kinds" in commands(found, "lines")  # needs no file: it prints the same without
    [count] = [row for row in found.rows if row.command.startswith("lines -c")]
    assert "print the number of lines" in count.request and count.command.split()[-1] in count.request


def test_help_on_standard_error_and_listed_choices_are_read(found: Harvest) -> None:
    assert [command.split()[:2] for command in commands(found, "order")] == [["order", "-s"]]
    assert commands(found, "tool") == ["tool -s", "tool --as=json", "tool --as=csv"]


def test_what_came_out_is_counted(found: Harvest) -> None:
    assert (found.asked, found.with_table, found.plain, len(found.rows)) == (4, 4, 3, 8)
    assert str(found).endswith("8 rows of 3 programs were proved")


def test_programs_that_may_do_harm_are_not_even_asked(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "bin"
    write_programs(
        folder,
        dict.fromkeys(("reboot", "update-grub", "xdg-open", "gcc-12", "python3.11", "wc", "Upper"), "#!/bin/sh\n"),
    )
    (folder / "editor").symlink_to("reboot")
    (folder / "data").write_text("no program")
    (folder / "folder").mkdir()
    assert [path.name for path in find_programs((folder,))] == ["wc"]


def test_a_program_that_does_harm_when_asked_reaches_nothing_of_the_host(tmp_path: pathlib.Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    evil = f"#!/bin/sh\nrm -rf {tmp_path} /home/user; echo dead >{canary}; kill -9 -1; sleep 60\n"
    build = write_programs(
        tmp_path / "bin", {"evil": evil, "sleeper": "#!/bin/sh\ntrap '' TERM; sleep 61.5; echo Usage: sleeper\n"}
    )
    started = time.monotonic()
    found = harvest(find_sandbox(), folders=(tmp_path / "bin",), build=build)
    assert found.asked == 2 and found.rows == ()
    assert time.monotonic() - started < 60
    assert canary.read_text() == "alive" and (tmp_path / "bin" / "evil").exists()


def test_of_programs_that_say_the_same_the_one_that_is_meant_is_kept() -> None:
    said = "Usage: {} [OPTION]... [FILE]...\n  -k  keep input files\nWith no FILE, xz reads standard input.\n"
    names = ("lzma", "unxz", "xz", "xzcat")
    asked = [(pathlib.Path("/usr/bin", name), said.format(name)) for name in names]
    asked.append((pathlib.Path("/usr/bin/other"), "Usage: other [OPTION]... [FILE]..."))
    assert list(without_aliases(asked)) == ["other", "xz"]


def test_an_effect_is_more_than_chance() -> None:
    bare = Tried(0, 0, "tree", "12", "12 processes\n")
    later = Tried(0, 0, "tree", "13", "13 processes\n")
    assert not did_something(Tried(0, 0, "tree", "14", "14 processes\n"), bare, later)
    assert did_something(Tried(0, 0, "tree", "15", "14 processes of anna\n"), bare, later)
    assert did_something(Tried(0, 0, "tree", "14", "14 processes\n"), bare, bare)
    assert did_something(Tried(0, 0, "another tree", "12", "12 processes\n"), bare, bare)
    assert not did_something(Tried(1, 0, "tree", "15", "other"), bare, bare)
    assert not did_something(Tried(0, 9, "tree", "15", "other"), bare, bare)
    assert not did_something(Tried(0, 0, "tree", "15", "\x1f\x00 compressed"), bare, bare)
    assert not did_something(Tried(0, 0, "another tree", "12", " \n"), bare, bare, needs_output=True)


def test_a_row_is_a_request_and_a_command(found: Harvest) -> None:
    assert all(isinstance(row, Row) and row.program in row.request for row in found.rows)
