"""Proves what options of programs do: runs a command with the option and without it, on the same files, in the sandbox.

Takes `Help`s; gives `Row`s. A row's command ended well, said nothing on standard error, and did something that it does not do without the
option. That the description is true of what it did is the program's own word.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import secrets
import shlex
import zlib
from collections.abc import Mapping, Sequence

from overseer_training.data.sources.help_rows import Lesson, Row, lessons, request_for
from overseer_training.data.sources.help_text import Help
from overseer_training.evaluation.compare import normalize_output
from overseer_training.evaluation.sandbox import Sandbox
from overseer_training.guards.judge import judge
from overseer_training.guards.shell import parses

# What programs are tried with: kind -> the names that a file of it has in commands; in FIXTURE it is called by its kind.
KINDS = {
    "text": ("notes.txt", "report.txt", "todo.txt", "draft.md", "errors.log", "servers.txt"),
    "folder": ("photos", "projects", "backup", "docs", "logs"),
    "archive": ("site.tar.gz", "backup.tar.gz"),
    "compressed": ("old.log.gz", "dump.sql.gz"),
    "program": ("app", "server"),
    "data": ("users.json", "settings.json"),
    "packed": ("files.zip", "invoices.zip"),
}
# A program that takes a text is tried with no other kinds of files: sorting an archive teaches nothing.
FOR_ANY = ("text", "folder")
FIXTURE = r"""
mkdir -p /srv/kinds/folder/summer/beach /srv/kinds/folder/.cache
cd /srv/kinds
printf '%s\n' '# Monday report' 'alpha 12 web01' 'beta 7 db01' 'beta 7 db01' '' '' '    indented line, Gamma' \
  $'tab\tseparated\tvalues' 'trailing blanks   ' 'Delta 100 web02' 'delta 100 web02' 'naïve café' 'v1.10 March' 'v1.9 January' '2K' '1M' \
  'a rather long line that goes on for quite a while, so that it has to be wrapped by a program that folds long lines' 'last 3' >text
printf 'alpha\nbeta\ngamma\n' >words.txt
for name in readme.txt summer/b10.txt summer/b9.txt; do cp text folder/$name; done
: >folder/empty~; printf x >folder/.hidden; ln -s readme.txt folder/link; ln folder/readme.txt folder/same.txt
head -c 3000 /dev/zero >folder/summer/beach/big.bin
printf '#!/bin/sh\n' >folder/run.sh; chmod 755 folder/run.sh
touch -d '2026-03-01 10:00' folder/run.sh; touch -d '2026-05-01 10:00' folder/readme.txt folder/summer
tar -czf archive folder; gzip -c text >compressed; cp /usr/bin/true program
printf '{"name": "anna", "roles": ["admin", "dev"], "age": 31}\n' >data
type zip >/dev/null 2>&1 && zip -qr packed.zip folder && mv packed.zip packed || cp archive packed
"""
MOST_ROWS = 12  # of a program; chosen, so that those with long tables do not drown the rest
MOST_LESSONS = 24  # of a program that are tried
TRIED_SECONDS = 1  # for one command
MOST_TIMEOUTS = 2  # of a program on one kind of file; it waits for something, and the rest would wait too
PROBES = 10  # lessons that are tried first; where none shows on a kind of file that the program refuses, the others are not tried on it
AT_ONCE = 12  # commands of a program that share a sandbox, each with a home folder of its own
NO_TEXT = re.compile(
    "[\\x00\ufffd]"
)  # of bytes that are none; a terminal is no place for them, and many programs refuse it
SHOWN_BYTES = 4000  # of an output, where it has to be looked at and not only compared
# Runs each line of its input as a command in a home folder of its own, and tells its exit code, checksums of what was left and of what
# it said, and the beginning of that.
TRY = r"""
set -f
mkdir /tmp/before
cp -a /srv/kinds/words.txt /tmp/before/words.txt
{place}
while IFS= read -r command; do
  cd /tmp; rm -rf /tmp/home; cp -a /tmp/before /tmp/home; cd /tmp/home
  HOME=/tmp/home PATH={path} timeout -k 0.2 {seconds} $command >/tmp/out 2>/tmp/err </dev/null
  code=$?
  left=$(tar --sort=name --mtime=@0 -cf - . 2>/dev/null | cksum)
  printf '\n{mark} %s %s %s %s\n' $code "$left" "$(cksum </tmp/out)" "$(cksum </tmp/err)"
  head -c {shown} /tmp/out
done <<'{mark}'
{commands}
{mark}
"""


@dataclasses.dataclass(frozen=True)
class Tried:
    """What one command did.

    Attributes:
        complaints: bytes on standard error.
        left, output: checksums of the home folder afterwards, and of standard output.
        shown: the beginning of standard output.
    """

    exit_code: int
    complaints: int
    left: str
    output: str
    shown: str

    @property
    def is_fine(self) -> bool:
        return self.exit_code == 0 and self.complaints == 0


class Prover:
    """Tries commands of installed programs in a sandbox.

    Args:
        folders: where programs are looked for, before `/usr/bin`.
        build: shell code that makes programs, for tests.
    """

    def __init__(self, sandbox: Sandbox, folders: Sequence[pathlib.Path], build: str = "") -> None:
        self._sandbox = sandbox
        self._path = ":".join(dict.fromkeys((*map(str, folders), "/usr/bin", "/bin")))
        self.fixture = sandbox.build_fixture("installed programs", f"{FIXTURE}\n{build}")

    def rows(self, program: str, table: Help) -> list[Row]:
        """The proved rows of `program`, in the order of its table; at most `MOST_ROWS`."""
        candidates = lessons(table)[:MOST_LESSONS] if table.operand != "other" else []
        proved: dict[Lesson, tuple[Row, Tried]] = {}
        takes_text = False
        for kind in {"file": tuple(KINDS), "folder": ("folder",)}.get(table.operand, ("",)):
            if kind == "folder" and table.operand == "file" and not takes_text:
                continue  # some read a folder as an empty file
            waiting = [lesson for lesson in candidates if lesson not in proved]
            if not waiting or len(proved) >= MOST_ROWS or (takes_text and kind not in FOR_ANY):
                break
            if self._prove(program, kind, waiting[:PROBES], proved):
                takes_text |= kind == "text"
                self._prove(program, kind, waiting[PROBES:], proved)
        taught = {lesson: proved[lesson] for lesson in candidates if lesson in proved}
        if table.operand == "none":
            return [row for row, _ in taught.values()][:MOST_ROWS]
        return self._without_needless_files(program, taught)[:MOST_ROWS]

    def _prove(
        self, program: str, kind: str, waiting: Sequence[Lesson], proved: dict[Lesson, tuple[Row, Tried]]
    ) -> bool:
        """Add to `proved` what shows on a file of `kind`; whether the program takes such a file at all."""
        operand = _one_of(KINDS[kind], program) if kind else ""
        bare, commands = _join(program, operand), {_join(program, lesson.option, operand): lesson for lesson in waiting}
        allowed = [command for command in commands if parses(command) and judge(command).decision == "allow"]
        if not allowed:
            return False
        first, *tried, last = self._try([bare, *allowed, bare], kind, operand)
        if first is None or last is None:
            return False
        before = len(proved)
        for command, found in zip(allowed, tried, strict=True):
            if found is not None and did_something(found, first, last, needs_output=not operand):
                lesson = commands[command]
                proved[lesson] = Row(program, request_for(program, operand, lesson.what), command), found
        return first.is_fine or len(proved) > before

    def _without_needless_files(self, program: str, taught: Mapping[Lesson, tuple[Row, Tried]]) -> list[Row]:
        """The rows; where an option prints the same without a file (`--list-languages`), the row names none."""
        commands = [_join(program, lesson.option) for lesson in taught]
        rows = []
        for (lesson, (row, seen)), command, found in zip(
            taught.items(), commands, self._try(commands, "", ""), strict=True
        ):
            is_needless = found is not None and found.is_fine and found.shown.strip() and found.output == seen.output
            rows.append(Row(program, request_for(program, "", lesson.what), command) if is_needless else row)
        return rows

    def _try(self, commands: Sequence[str], kind: str, operand: str) -> list[Tried | None]:
        """What each of `commands` did; None where the sandbox could not say."""
        found: list[Tried | None] = []
        place = f"cp -a /srv/kinds/{kind} /tmp/before/{operand}" if kind else ""
        while len(found) < len(commands):  # where the sandbox's time was over, the next one goes on
            some, mark = commands[len(found) : len(found) + AT_ONCE], secrets.token_hex(8)
            script = TRY.format(
                place=place, path=shlex.quote(self._path), seconds=TRIED_SECONDS, mark=mark, shown=SHOWN_BYTES, commands="\n".join(some)
            )  # fmt: skip
            _, *parts = self._sandbox.run(self.fixture, script).stdout.split(f"\n{mark} ")
            found += [_read_tried(part) for part in parts] or [None]
            if sum(one is None or one.exit_code in (124, 137) for one in found) > MOST_TIMEOUTS:
                return [*found, *[None] * (len(commands) - len(found))]
        return found


def did_something(found: Tried, first: Tried, last: Tried, *, needs_output: bool = False) -> bool:
    """Whether a command with an option ended well, without complaints, and did what it did not do without the option.

    Args:
        first, last: runs without the option, before and after. Where their output differs, numbers in it do not count.
        needs_output: a change of files is not enough.
    """
    if not found.is_fine or NO_TEXT.search(found.shown) or (needs_output and not found.shown.strip()):
        return False
    if not first.is_fine:
        return bool(found.shown.strip()) or found.left != first.left
    if first.left == last.left != found.left:
        return True
    if first.output == last.output:
        return found.output != first.output
    texts = [sorted(normalize_output(run.shown, numbers=False)) for run in (found, first, last)]
    return texts[1] == texts[2] != texts[0]


def _read_tried(part: str) -> Tried:
    line, _, shown = part.partition("\n")
    code, left, _, output, size, _, complaints = line.split()
    return Tried(int(code), int(complaints), left, f"{output} {size}", shown)


def _one_of(names: Sequence[str], program: str) -> str:
    return names[zlib.crc32(program.encode()) % len(names)]


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)
