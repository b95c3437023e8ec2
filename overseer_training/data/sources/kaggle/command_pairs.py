"""Pairs of a request and a command out of tables with any column names.

Takes a folder of tables; gives `pairs.jsonl`, which `sources/pairs.py` reads. Which column holds what is found by looking at names and
contents, and said; a table where it is not clear is left out with the reason.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Callable, Sequence

from overseer_training.data.clean import parses
from overseer_training.data.sources.kaggle.reviewed import Dataset
from overseer_training.data.sources.kaggle.tables import Row, find_tables, read_table
from overseer_training.data.sources.pairs import COMMAND_NAMES, QUERY_NAMES, count_pairs, read_pairs
from overseer_training.errors import DataError
from overseer_training.files import staged_file

PAIRS = "pairs.jsonl"
ROWS_LOOKED_AT = 200
LEAST_SHARE = 0.5  # of the values of a column that must look like what it is taken for; chosen
MOST_SHOWN = 20  # column names in a message
KNOWN_NAME_BONUS = 0.25  # chosen: a known name decides between columns that look alike
# Programs that many commands begin with; enough of them to tell a column of commands from a column of text.
_NAMES = """
    alias apt apt-get at awk base64 basename bash cat cd chgrp chmod chown cmp comm cp crontab curl cut date dd df diff dig
    dirname dmesg docker du echo env export expr fdisk file find free git grep groupadd groups gunzip gzip head history host
    hostname id ifconfig install ip iptables join journalctl kill killall last less ln locate ls lsblk lscpu lsof make man
    md5sum mkdir mkfs mount mv nano netstat nice nl nohup od passwd paste ping pip ps pwd python python3 readlink rename rm
    rmdir rsync scp screen sed seq service sha256sum shred shutdown sort split ss ssh stat strings su systemctl tac tail tar
    tee test time top touch tr traceroute tree type ulimit umask umount uname uniq unzip uptime useradd userdel usermod vim
    w watch wc wget whatis whereis which who whoami xargs yes yum zcat zip
"""
PROGRAMS = frozenset(_NAMES.split())
WORD = re.compile(r"[A-Za-z][a-z'-]*")
# What a manual page says of a program, and nobody can run: ls [OPTION]... [FILE]..., cp <source> <target>
SYNOPSIS = re.compile(
    r"(?<!\\)\[(?:-\w+|[A-Z]{3,}|(?i:options?|files?|arguments?|director\w+|commands?|paths?))\]"
    r"|<[A-Za-z][\w .-]*>|(?<![./])\.\.\.(?:\s|$)"
)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where the requests and the commands of a table are.

    Attributes:
        share: of the commands looked at, how many look like one; `looked_at` is their number.
    """

    request: str
    command: str
    share: float
    looked_at: int

    def __str__(self) -> str:
        return f"requests from {self.request!r}, commands from {self.command!r} ({self.share:.0%} of {self.looked_at} look like commands)"


def find_columns(rows: Sequence[Row]) -> Columns:
    """The columns of requests and commands, judged by `rows`.

    Raises:
        DataError: no two columns look like them.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row[name] for row in rows if row.get(name)] for name in names}
    commands = {name: _share(values[name], _is_command) for name in names}
    command = _best(names, commands, COMMAND_NAMES)
    requests = {name: _request_share(values[name]) for name in names if name != command}
    request = _best(list(requests), requests, QUERY_NAMES)
    if command is None or request is None:
        missing = "commands" if command is None else "requests"
        raise DataError(
            f"none of its columns ({_listed(names)}) looks like {missing}; "
            "name them with 'request_column' and 'command_column'"
        )
    return Columns(request, command, commands[command], len(values[command]))


def convert(source: pathlib.Path, target: pathlib.Path, dataset: Dataset) -> tuple[dict[str, int], list[str]]:
    """Write the pairs of all tables below `source` to `target`; (counts, what a person should know).

    Raises:
        DataError: there is no pair in any of them.
    """
    notes: list[str] = []
    counts = {"tables": 0, "rows": 0, "synopses": 0, "unreadable_characters": 0}
    path = target / PAIRS
    with staged_file(path) as staging, staging.open("w") as output:
        for table in find_tables(source):
            before = counts["rows"]
            try:
                columns = _columns_of(table, dataset)
                for row in read_table(table):
                    counts["rows"] += 1
                    query, command = row.get(columns.request, ""), row.get(columns.command, "")
                    if SYNOPSIS.search(command):
                        counts["synopses"] += 1
                    elif "\ufffd" in query + command:
                        counts["unreadable_characters"] += 1
                    else:
                        output.write(json.dumps({"query": query, "command": command}, ensure_ascii=False) + "\n")
            except DataError as error:
                read = counts["rows"] - before
                notes.append(
                    f"{table.relative_to(source)}: left out {f'after row {read}' if read else 'whole'}, {error}"
                )
                continue
            counts["tables"] += 1
            notes.append(f"{table.relative_to(source)}: {columns}")
    if not path.stat().st_size:
        raise DataError(
            f"{dataset.slug} has no pairs of a request and a command: {'; '.join(notes) or 'it has no tables'}"
        )
    pairs, no_pair = count_pairs(read_pairs(path))
    return {**counts, "pairs": pairs, "no_pair": no_pair}, notes


def _columns_of(table: pathlib.Path, dataset: Dataset) -> Columns:
    sample = list(itertools.islice(read_table(table), ROWS_LOOKED_AT))
    if dataset.request_column is None or dataset.command_column is None:
        return find_columns(sample)
    names = list(dict.fromkeys(name for row in sample for name in row))
    unknown = [name for name in (dataset.request_column, dataset.command_column) if name not in names]
    if unknown:
        raise DataError(f"it has the columns {_listed(names)}, and no {unknown[0]!r}")
    commands = [row[dataset.command_column] for row in sample if row.get(dataset.command_column)]
    return Columns(dataset.request_column, dataset.command_column, _share(commands, _is_command), len(commands))


def _listed(names: Sequence[str]) -> str:
    """Names that strangers gave, as one line that a terminal can show."""
    shown = [repr(name[:60]) for name in names[:MOST_SHOWN]]
    return ", ".join(shown + ["..."] * (len(names) > MOST_SHOWN)) or "none"


def _best(names: Sequence[str], shares: dict[str, float], known: Sequence[str]) -> str | None:
    fit = {
        name: shares[name] + (KNOWN_NAME_BONUS if name.strip().lower() in known else 0.0)
        for name in names
        if shares[name] >= LEAST_SHARE
    }
    return max(fit, key=lambda name: fit[name], default=None)


def _share(values: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, values)) / len(values) if values else 0.0


def _is_command(text: str) -> bool:
    words = text.removeprefix("sudo ").split()
    return bool(words) and words[0] in PROGRAMS and not _is_sentence(text) and parses(text)


def _request_share(values: Sequence[str]) -> float:
    """How many of `values` are sentences, less where few differ: a category repeats, a request seldom does."""
    return _share(values, _is_sentence) * min(1.0, 2 * len(set(values)) / max(1, len(values)))


def _is_sentence(text: str) -> bool:
    words = text.split()
    spoken = sum(WORD.fullmatch(word.strip(".,;:!?()\"'`")) is not None for word in words)
    return len(words) >= 3 and spoken / len(words) >= 0.6
