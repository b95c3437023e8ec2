"""What the package managers of this machine know about programs: names, one-line summaries, and what is installed.

Takes the files that dpkg, Homebrew, pip and npm keep, and `apt-cache dumpavail` for what could be installed; gives `Package`s.
Opens no connection. pip and npm keep no list of what could be installed, so only installed packages come from them.
Libraries, data and documentation are left out.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

DUMP_SECONDS = 60  # chosen; measured: 1.5 s for the 63,666 packages of Debian 12
NO_PROGRAM = re.compile(
    r"^(lib|fonts-|python3?-|ruby-|node-|golang-|r-cran-|task-)|-(dev|doc|docs|data|common|dbg|dbgsym|l10n)$"
)
PROGRAM_SECTIONS = {
    *("admin", "comm", "database", "devel", "editors", "electronics", "embedded", "games", "graphics", "hamradio"),
    *("httpd", "interpreters", "mail", "math", "misc", "net", "news", "otherosfs", "science", "shells", "sound"),
    *("tex", "text", "utils", "vcs", "video", "web", "x11", "gnome", "kde", "xfce"),
}
SILENT_FACETS = ("role", "implemented-in", "uitoolkit", "interface", "made-of", "suite", "culture", "x11", "scope")
HOMEBREW = ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")


@dataclasses.dataclass(frozen=True)
class Package:
    """A package with a program.

    Attributes:
        tags: words of its debtags that say what it is for, separated by blanks.
    """

    manager: str
    name: str
    summary: str
    tags: str = ""
    is_installed: bool = True


@dataclasses.dataclass(frozen=True)
class Source:
    """A package manager that is used on this machine; when `paths` change, so may its packages."""

    manager: str
    paths: tuple[pathlib.Path, ...]


def find_sources(root: pathlib.Path = pathlib.Path("/"), home: pathlib.Path | None = None) -> list[Source]:
    """The package managers that keep files on this machine.

    Args:
        root: below it the system's files are.
        home: of the user whose own installations count; the current user's if None.
    """
    home = home or pathlib.Path.home()
    cache = pathlib.Path(os.environ.get("HOMEBREW_CACHE") or home / "Library/Caches/Homebrew")
    prefixes = [root / prefix.lstrip("/") for prefix in HOMEBREW]
    places = {
        "apt": [root / "var/lib/dpkg/status", root / "var/lib/apt/lists"],
        "brew": [
            *(folder / "api" / f"{kind}.jws.json" for folder in (cache, home / ".cache/Homebrew") for kind in ("formula", "cask")),
            *(prefix / kind for prefix in prefixes for kind in ("Cellar", "Caskroom")),
        ],
        "pip": [
            *root.glob("usr/local/lib/python3*/*-packages"),
            *home.glob(".local/lib/python3*/site-packages"),
            *home.glob(".local/share/pipx/venvs/*/lib/python3*/site-packages"),
        ],
        "npm": [
            *(root / prefix / "lib/node_modules" for prefix in ("usr", "usr/local", "opt/homebrew")),
            home / ".npm-global/lib/node_modules",
            *home.glob(".nvm/versions/node/*/lib/node_modules"),
        ],
    }  # fmt: skip
    present = {manager: tuple(sorted(path for path in paths if path.exists())) for manager, paths in places.items()}
    return [Source(manager, paths) for manager, paths in present.items() if paths]


def read_packages(source: Source) -> Iterator[Package]:
    """The programs that `source` knows, each name once; files that cannot be read are passed over."""
    readers = {"apt": _apt, "brew": _brew, "pip": _pip, "npm": _npm}
    seen: set[str] = set()
    for package in readers[source.manager](source.paths):
        if package.name not in seen and package.summary:
            seen.add(package.name)
            yield package


def parse_control(text: str, manager: str = "apt") -> Iterator[Package]:
    """The programs in a Debian control file (`status`, `Packages`, the output of `apt-cache dumpavail`)."""
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.split("\n"):
            if line[:1].isspace():
                if key == "tag":  # the only one whose further lines are wanted
                    fields[key] += line
                continue
            key, _, value = line.partition(":")
            key = key.lower()
            fields["description" if key.startswith("description-") and key != "description-md5" else key] = (
                value.strip()
            )
        name, tags = fields.get("package", ""), re.findall(r"([\w-]+)::([\w:+-]+)", fields.get("tag", ""))
        if name and _is_program(name, fields.get("section", ""), tags):
            words = {value for facet, value in tags if facet not in SILENT_FACETS}
            is_installed = fields.get("status", "").endswith(" installed")
            yield Package(manager, name, fields.get("description", ""), " ".join(sorted(words)), is_installed)


def _is_program(name: str, section: str, tags: list[tuple[str, str]]) -> bool:
    roles = {value for facet, value in tags if facet == "role"}
    if roles:
        return "program" in roles
    return section.rpartition("/")[2] in PROGRAM_SECTIONS and NO_PROGRAM.search(name) is None


def _apt(paths: tuple[pathlib.Path, ...]) -> Iterator[Package]:
    for path in paths:
        if path.is_file():
            packages = parse_control(path.read_text("utf-8", "replace"))
            yield from (package for package in packages if package.is_installed)
    if shutil.which("apt-cache") and any(path.is_dir() for path in paths):
        try:
            environment = {**os.environ, "LC_ALL": "C.UTF-8"}
            dump = subprocess.run(
                ["apt-cache", "dumpavail"],
                capture_output=True, env=environment, timeout=DUMP_SECONDS, check=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return  # what is installed is known all the same
        yield from parse_control(dump.stdout.decode("utf-8", "replace"))


def _brew(paths: tuple[pathlib.Path, ...]) -> Iterator[Package]:
    folders = [path for path in paths if path.is_dir()]
    installed = {entry.name for entry in itertools.chain.from_iterable(folder.iterdir() for folder in folders)}
    for path in paths:
        if path.is_file():
            for entry in _brew_index(path):
                name = entry.get("token") or entry.get("name")  # of a cask, else of a formula
                if isinstance(name, str):
                    yield Package("brew", name, str(entry.get("desc") or ""), "", name in installed)


def _brew_index(path: pathlib.Path) -> list[dict[str, object]]:
    """The entries of Homebrew's copy of its index: a signed document whose payload is again JSON."""
    try:
        entries = json.loads(json.loads(path.read_text("utf-8"))["payload"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _pip(paths: tuple[pathlib.Path, ...]) -> Iterator[Package]:
    for distribution in importlib.metadata.distributions(path=[str(path) for path in paths]):
        if any(entry.group == "console_scripts" for entry in distribution.entry_points):
            yield Package("pip", str(distribution.metadata["Name"]), str(distribution.metadata["Summary"] or ""))


def _npm(paths: tuple[pathlib.Path, ...]) -> Iterator[Package]:
    for manifest in itertools.chain.from_iterable(
        (*path.glob("*/package.json"), *path.glob("@*/*/package.json")) for path in paths
    ):
        try:
            document = json.loads(manifest.read_text("utf-8"))
            if document.get("bin"):
                yield Package("npm", document["name"], str(document.get("description", "")))
        except (OSError, ValueError, KeyError, AttributeError):
            continue
