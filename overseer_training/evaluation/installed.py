"""Asks the programs of a machine for their `--help`, inside the sandbox.

Takes a sandbox and the folders of the package manager; gives help texts, and the `Row`s that `option_proof.py` makes of them. A program may do
anything when it is started, whatever it is told: none is started outside the sandbox, and none of `SKIPPED` at all.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import os
import pathlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from overseer_training.data.sources.help_rows import Row
from overseer_training.data.sources.help_text import read_help
from overseer_training.evaluation.option_proof import Prover
from overseer_training.evaluation.sandbox import Fixture, Sandbox

FOLDERS = (
    pathlib.Path("/usr/bin"),
    pathlib.Path("/usr/sbin"),
    pathlib.Path("/usr/games"),
)  # what the package manager fills
SECONDS = 2  # for a help text
LONGEST_CHARACTERS = 64 * 1024  # of a help text
PROGRAM_NAME = re.compile(r"[a-z][a-z0-9_+-]*")
# gcc-12, x86_64-linux-gnu-gcc: other names of a program that is there without them.
OTHER_NAME = re.compile(r".*-\d+|(?:x86_64|i\d86|aarch64|arm\w*|riscv64)-linux-\w+-.*")
# Never started, not even in the sandbox; `*` stands for any letters.
SKIPPED = {
    "switches the machine off or changes what runs on it": "reboot halt poweroff shutdown init telinit rtcwake kexec* ctrlaltdel killall5 "
    "pivot_root switch_root swapon swapoff fsfreeze systemd start-stop-daemon invoke-rc.d service runuser su sudo login sulogin nologin",
    "begins its work whatever it is told": "update-* add-shell remove-shell shadowconfig pwconv pwunconv grpconv grpunconv pwck grpck vipw "
    "vigr ldconfig locale-gen mandb accessdb e2scrub* make-ssl-cert install-sgmlcatalog installkernel deb-systemd-* dpkg-preconfigure "
    "wall write mesg yes sync logsave newusers chpasswd chgpasswd true false test",
    "is a server or waits for calls": "*-daemon *-agent *-server agetty getty sshd cron atd dirmngr nginx apache2 httpd mysqld mariadbd "
    "postgres dnsmasq smbd nmbd chronyd ntpd rpcbind containerd dockerd cupsd named exim4 master rmiregistry serialver rtmon arpd "
    "systemd-stdio-bridge systemd-socket-activate systemd-inhibit",
    "opens a window or a browser": "x-* gnome-* gcr-* xdg-* pinentry* sensible-* www-browser chromium* firefox* google-chrome* code gimp* "
    "libreoffice* soffice vlc inkscape wish* xev xkill xmessage xfd xfontsel xwininfo jconsole open see view-mailcap",
    "takes the terminal": "reset clear tset vi vim* view rview rvim ex nano pico emacs* ed red top htop btop atop less more pager most "
    "cscope tmux screen mc watch dialog whiptail script scriptlive vimtutor systemd-cgtop slabtop",
}  # fmt: skip
_PATTERNS = [pattern for names in SKIPPED.values() for pattern in names.split()]


@dataclasses.dataclass(frozen=True)
class Harvest:
    """What asking the programs of a machine gave.

    Attributes:
        asked: programs that were started.
        with_table: of these, those that printed a table of options, links to another one left out.
        plain: of these, those that need nothing, or a file.
        rows: what was proved.
    """

    asked: int
    with_table: int
    plain: int
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        programs = len({row.program for row in self.rows})
        return (
            f"{self.asked} programs asked in the sandbox; {self.with_table} have a table of options, {self.plain} of them need no more than a "
            f"file; {len(self.rows)} rows of {programs} programs were proved"
        )


def harvest(
    sandbox: Sandbox,
    say: Callable[[str], None] = lambda line: None,
    folders: Sequence[pathlib.Path] = FOLDERS,
    build: str = "",
) -> Harvest:
    """Ask the programs in `folders` and prove what they say.

    Args:
        say: is told how far it is.
        build: shell code that makes programs inside the sandbox, for tests.

    Raises:
        SandboxError: the files to try programs with cannot be made.
    """
    prover, programs = Prover(sandbox, folders, build), find_programs(folders)
    asked: list[tuple[pathlib.Path, str]] = []
    for path, text in ask(programs, sandbox, prover.fixture):
        asked.append((path, text))
        say(f"{len(asked)} of {len(programs)} programs asked")
    tables = {name: read_help(text, name) for name, text in without_aliases(asked).items()}
    plain = {name: table for name, table in tables.items() if table.options and table.operand != "other"}
    rows: list[Row] = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, proved in enumerate(pool.map(prover.rows, plain, plain.values()), start=1):
            rows += proved
            say(f"{number} of {len(plain)} programs tried, {len(rows)} rows")
    return Harvest(len(asked), sum(bool(table.options) for table in tables.values()), len(plain), tuple(rows))


def find_programs(folders: Sequence[pathlib.Path] = FOLDERS) -> list[pathlib.Path]:
    """The programs in `folders` that may be asked, by name; of one name the first."""
    found: dict[str, pathlib.Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*")):
            name = path.name
            if not PROGRAM_NAME.fullmatch(name) or OTHER_NAME.fullmatch(name) or not os.access(path, os.X_OK):
                continue
            real = path.resolve()
            if (
                path.is_file()
                and not real.is_relative_to("/usr/local")
                and not _is_skipped(name)
                and not _is_skipped(real.name)
            ):
                found.setdefault(name, path)
    return [found[name] for name in sorted(found)]


def _is_skipped(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _PATTERNS)


def ask(programs: Sequence[pathlib.Path], sandbox: Sandbox, fixture: Fixture) -> Iterator[tuple[pathlib.Path, str]]:
    """Each program with what `--help` printed, in their order; empty where it printed nothing in time.

    Each is asked in a sandbox of its own. Some print their help as an error message: without any output, that is taken.
    """

    def ask_one(path: pathlib.Path) -> tuple[pathlib.Path, str]:
        asked = sandbox.run(fixture, f"timeout -k 0.2 {SECONDS} {shlex.quote(str(path))} --help")
        if asked.timed_out or asked.exit_code in (124, 137):
            return path, ""
        return path, (asked.stdout if asked.stdout.strip() else asked.stderr)[:LONGEST_CHARACTERS]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(ask_one, programs)


def without_aliases(asked: Iterable[tuple[pathlib.Path, str]]) -> dict[str, str]:
    """Name -> help text; of programs that say the same the one that the text is about: `unxz` says what `xz` says, and does something else."""
    same: dict[str, dict[str, str]] = {}
    for path, text in asked:
        own = rf"(?<![\w-]){re.escape(path.name)}(?![\w-])"
        same.setdefault(re.sub(rf"(?i)(usage\W+\S*?){own}", r"\1", text, count=1), {})[path.name] = text

    def mentions(name: str, text: str) -> int:
        return len(re.findall(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))

    kept = {}
    for text, names in same.items():
        name = min(names, key=lambda name: (-mentions(name, text), len(name), name))
        kept[name] = names[name]
    return dict(sorted(kept.items()))
