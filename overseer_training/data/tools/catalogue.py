"""The tools that may fulfil a need: the curated list and this machine's packages in one SQLite file, searched with BM25.

Takes `Tool`s and `Package`s; gives `Candidate`s. Finds by words alone and knows no synonyms: the words come from purposes, from the
requests of the curated list and from its categories, and the choice among what is found is the model's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from overseer_training.data.sources.advice import INSTALL, MANAGERS, Tool, choose_package, load_tools
from overseer_training.data.sources.corpus import CORPUS
from overseer_training.data.tools.packages import Package, Source, find_sources, read_packages
from overseer_training.errors import DataError, NotAvailableError
from overseer_training.files import staged_file
from overseer_training.records import Platform

FORMAT = 1  # of the file; another one is built anew
CANDIDATES = 8
PACKAGE_PLACES = 2  # of the candidates go to packages outside the curated list; chosen
# Measured with the requests of every third curated tool (n = 1,236), each left out of the index in its turn: among the first eight is the
# tool, or one that its entry names as an alternative, in 59.0 % without categories, 62.2 % at 0.4 and 62.8 % at 0.6 and 1.
CATEGORY_WEIGHT = 0.6
# In the same way: the tool itself is first in 14.5 %, in 12.9 % if all weights are 1.
COLUMN_WEIGHTS = "1, 2, 1, 1"  # name, purpose, category, requests
PURPOSE_WORDS = 11  # the longest of the curated list
# Which package managers a machine has together, the most common first.
SYSTEMS: dict[Platform, tuple[tuple[str, ...], ...]] = {
    "linux": tuple((manager, "pip", "npm", "cargo") for manager in ("apt", "dnf", "pacman")),
    "macos": (("brew", "pip", "npm", "cargo"),),
}
FILLERS = frozenset({  # words that say nothing about what a tool is for; an apostrophe ends a word
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "cannot", "could", "do", "does",
    "don", "for", "from", "get", "give", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "just", "let",
    "lets", "like", "ll", "m", "me", "my", "need", "not", "of", "on", "one", "or", "our", "please", "re", "s", "should", "show", "so",
    "some", "something", "t", "than", "that", "the", "their", "them", "then", "there", "they", "thing", "things", "this", "to", "tool",
    "up", "us", "use", "using", "ve", "want", "was", "way", "we", "what", "when", "where", "which", "while", "who", "with", "without",
    "would", "you", "your",
})  # fmt: skip
TOOL_COLUMNS = "name, purpose, install, platforms, is_installed"
PACKAGE_COLUMNS = "name, summary, manager, is_installed"
SCHEMA = """
create virtual table tool using fts5(
    name, purpose, category, requests, platforms unindexed, install unindexed, is_installed unindexed, tokenize = 'porter unicode61');
create virtual table category using fts5(name, words, tokenize = 'porter unicode61');
create virtual table package using fts5(
    name, summary, tags, manager unindexed, is_installed unindexed, tokenize = 'porter unicode61');
create table alias (name text primary key, is_tool integer, id integer);
create table stamp (value text);
"""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A tool that may fulfil a need.

    Attributes:
        purpose: what it is for, in at most `PURPOSE_WORDS` words.
        manager, package: what to install it with; both empty where no package of it is known.
    """

    name: str
    purpose: str
    is_installed: bool
    manager: str = ""
    package: str = ""

    @property
    def install_command(self) -> str:
        """The command that installs it; empty where it is installed or no package is known."""
        return "" if self.is_installed or not self.manager else f"{INSTALL[self.manager]} {self.package}"


@dataclasses.dataclass(frozen=True)
class Host:
    """The machine that a tool is wanted for.

    Attributes:
        managers: the package managers that it has, the preferred one first.
        has_program: whether a program of that name can be started there.
    """

    platform: Platform
    managers: tuple[str, ...]
    has_program: Callable[[str], bool]


def this_host(platform: Platform) -> Host:
    """The machine that this runs on; with the first of `SYSTEMS` where it has no package manager that is known."""
    found = tuple(manager for manager in MANAGERS[platform] if _is_program(_program(manager)))
    return Host(platform, found or SYSTEMS[platform][0], _is_program)


def other_host(platform: Platform, installed: Collection[str] = (), managers: tuple[str, ...] | None = None) -> Host:
    """A machine of which no more is known than what is installed there; with the first of `SYSTEMS` if `managers` is None."""
    return Host(platform, managers or SYSTEMS[platform][0], installed.__contains__)


class Catalogue:
    """Tools and packages that can be searched; made by `curated_catalogue` or `open_catalogue`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def search(self, need: str, host: Host, limit: int = CANDIDATES) -> list[Candidate]:
        """The candidates for `need`, the best match first; curated tools before packages.

        Args:
            need: in people's words; nothing is found where no word of it is known.
        """
        words = re.findall(r"[^\W_]+", need.lower())
        telling = [word for word in words if word not in FILLERS] or words
        if not telling or limit < 1:
            return []
        match = " OR ".join(f'"{word}"' for word in dict.fromkeys(telling))
        tools = self._search_tools(match, host, limit)
        packages = self._search_packages(match, host, limit)
        places = max(limit - len(tools), PACKAGE_PLACES * limit // CANDIDATES)
        return [*tools[: limit - min(places, len(packages))], *packages[:places]]

    def find(self, name: str, host: Host) -> Candidate | None:
        """The tool or package of this name, or the tool that the package of this name holds alone; None where there is none."""
        row = self._connection.execute("select is_tool, id from alias where name = ?", (name.casefold(),)).fetchone()
        if row is None:
            return None
        is_tool, identity = row
        if not is_tool:
            found = self._connection.execute(f"select {PACKAGE_COLUMNS} from package where rowid = ?", (identity,))
            return _package_candidate(found.fetchone(), host)
        found = self._connection.execute(f"select {TOOL_COLUMNS} from tool where rowid = ?", (identity,))
        tool = found.fetchone()
        return _tool_candidate(tool, host) if host.platform in tool[3].split() else None

    def _search_tools(self, match: str, host: Host, limit: int) -> list[Candidate]:
        scores: dict[str, float] = defaultdict(float)
        for name, score in self._connection.execute(
            f"select name, {CATEGORY_WEIGHT} * bm25(category) from category where category match ?", (match,)
        ):
            scores[name] = score
        ranked = []
        for *row, category, score in self._connection.execute(
            f"select {TOOL_COLUMNS}, category, bm25(tool, {COLUMN_WEIGHTS}) from tool where tool match ?", (match,)
        ):
            if host.platform in row[3].split():
                ranked.append((score + scores[category], row[0], row))  # bm25 is negative: the lower, the better
        return [_tool_candidate(row, host) for _, _, row in sorted(ranked)[:limit]]

    def _search_packages(self, match: str, host: Host, limit: int) -> list[Candidate]:
        marks = ", ".join("?" * len(host.managers))
        rows = self._connection.execute(
            f"select {PACKAGE_COLUMNS} from package where package match ? and manager in ({marks}) "
            "order by bm25(package), name limit ?",
            (match, *host.managers, limit),
        )
        return [_package_candidate(row, host) for row in rows]

    def close(self) -> None:
        self._connection.close()


def curated_catalogue(tools: Iterable[Tool]) -> Catalogue:
    """`tools` alone, in memory.

    Raises:
        NotAvailableError: the SQLite of this Python has no FTS5.
    """
    connection = sqlite3.connect(":memory:")
    _fill(connection, list(tools), [])
    return Catalogue(connection)


def open_catalogue(
    path: pathlib.Path, folder: pathlib.Path = CORPUS / "tools", sources: Sequence[Source] | None = None
) -> Catalogue:
    """The curated list and the packages of this machine, from the file at `path`; built anew when a source changed.

    Args:
        path: in the user's cache folder; damaged files and those of other versions are replaced.
        folder: of the curated list.
        sources: the package managers; those of this machine if None.

    Raises:
        DataError: the curated list is not valid, or `path` cannot be written.
        NotAvailableError: the SQLite of this Python has no FTS5.
    """
    sources = find_sources() if sources is None else sources
    stamp = _stamp([*sorted(folder.glob("*.yaml")), *(file for source in sources for file in source.paths)])
    if _read_stamp(path) != stamp:
        tools = load_tools(folder)
        try:
            with staged_file(path) as staging:
                connection = sqlite3.connect(staging)
                try:
                    _fill(connection, tools, [package for source in sources for package in read_packages(source)])
                    connection.execute("insert into stamp values (?)", (stamp,))
                    connection.commit()
                finally:
                    connection.close()
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"the tool catalogue cannot be written to {path}: {error}; set OVERSEER_CACHE to a folder with space"
            ) from error
    return Catalogue(sqlite3.connect(f"file:{path}?mode=ro", uri=True))


def _fill(connection: sqlite3.Connection, tools: list[Tool], packages: list[Package]) -> None:
    try:
        connection.executescript(SCHEMA)
    except sqlite3.OperationalError as error:
        if "fts5" not in str(error):
            raise
        message = "the SQLite of this Python has no full-text search (FTS5); use another build of Python"
        raise NotAvailableError(message) from error
    installed = {(package.manager, package.name) for package in packages if package.is_installed}
    curated = {pair for tool in tools for pair in tool.install.items()}
    others = [package for package in packages if (package.manager, package.name) not in curated]
    connection.executemany(
        "insert into package values (?, ?, ?, ?, ?)",
        [(item.name, item.summary, item.tags, item.manager, item.is_installed) for item in others],
    )
    of_category: dict[str, list[str]] = defaultdict(list)
    for tool in tools:
        of_category[tool.category] += [tool.purpose, *tool.requests]
        is_installed = not installed.isdisjoint(tool.install.items())
        texts = (tool.name, tool.purpose, tool.category, "\n".join(tool.requests))
        values = (*texts, " ".join(tool.platforms), json.dumps(tool.install), is_installed)
        connection.execute("insert into tool values (?, ?, ?, ?, ?, ?, ?)", values)
    connection.executemany(
        "insert into category values (?, ?)", [(name, "\n".join(texts)) for name, texts in of_category.items()]
    )
    aliases = {package.name.casefold(): (False, number) for number, package in enumerate(others, start=1)}
    held_by = defaultdict(set)
    for number, tool in enumerate(tools, start=1):
        for package_name in tool.install.values():
            held_by[package_name.casefold()].add(number)
    aliases |= {name: (True, min(numbers)) for name, numbers in held_by.items() if len(numbers) == 1}
    aliases |= {tool.name.casefold(): (True, number) for number, tool in enumerate(tools, start=1)}
    connection.executemany("insert into alias values (?, ?, ?)", [(name, *what) for name, what in aliases.items()])


def _tool_candidate(row: Sequence[Any], host: Host) -> Candidate:
    name, purpose, install, _, is_installed = row
    is_here = bool(is_installed) or host.has_program(name)
    manager, package = choose_package(json.loads(install), host.managers) or ("", "")
    return Candidate(name, _shorten(purpose), is_here, manager, package)


def _package_candidate(row: Sequence[Any], host: Host) -> Candidate:
    name, summary, manager, is_installed = row
    return Candidate(name, _shorten(summary), bool(is_installed) or host.has_program(name), manager, name)


def _shorten(purpose: str) -> str:
    """`purpose` on one line, cut where it has too many words for a prompt."""
    return " ".join(purpose.split()[:PURPOSE_WORDS]).rstrip(",;:. ")


def _is_program(name: str) -> bool:
    return shutil.which(name) is not None


def _program(manager: str) -> str:
    return INSTALL[manager].removeprefix("sudo ").split()[0]


def _stamp(paths: Iterable[pathlib.Path]) -> str:
    """Differs when one of the files or folders was changed."""
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps([FORMAT, facts]).encode()).hexdigest()


def _read_stamp(path: pathlib.Path) -> str:
    """The stamp of the file at `path`; empty where there is no such file or it is damaged."""
    if not path.is_file():
        return ""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        row = connection.execute("select value from stamp").fetchone()
        return str(row[0]) if row else ""
    except sqlite3.DatabaseError:
        return ""
    finally:
        connection.close()
