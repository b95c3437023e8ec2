"""Three made-up owners with habits that are written down here, to measure what a model learns from interactions.

Takes an owner, a number and a seed; gives interactions as the store would have them: a request, the command that a model without
experience proposes, and what this owner runs instead. A model that learned gives the owner's command for requests it has not seen.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from overseer_training.data.sources.corpus import fill
from overseer_training.learning.interaction import Interaction

HOUR_SECONDS = 3600
STARTED = 1_767_225_600.0  # the first interaction: 2026-01-01 00:00 UTC
SLIPS = 0.12  # share of commands that are mistyped first; chosen
NOT_FOUND = 127


@dataclasses.dataclass(frozen=True)
class Habit:
    """A need that comes again: how it is said, what a model proposes, what the owner runs. Braces are slots of the owner."""

    wordings: tuple[str, ...]
    proposal: str
    command: str


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who it is in one line, their habits, and the values of their slots."""

    name: str
    description: str
    directory: str
    slots: dict[str, tuple[str, ...]]
    habits: tuple[Habit, ...]


def _habit(proposal: str, command: str, *wordings: str) -> Habit:
    return Habit(wordings, proposal, command)


TOOL_LOVER = Owner(
    "tool-lover",
    "a developer who uses rg for grep, fd for find, eza for ls, bat for cat, dust for du and procs for ps",
    "/home/kim/src",
    {
        "dir": ("src", "docs", "tests", "lib", "config", "scripts", "web", "api"),
        "word": ("deadline", "parse_args", "retry", "timeout", "license", "socket", "deprecated", "locale", "session"),
        "ext": ("py", "rs", "md", "toml", "json", "ts", "go", "yaml"),
        "file": ("README.md", "Makefile", "main.py", "config.toml", "notes.txt", "setup.cfg"),
        "program": ("nginx", "python", "postgres", "firefox", "ssh"),
    },
    (
        _habit("grep -rn '{word}' {dir}", "rg -n '{word}' {dir}", "where does {word} occur in {dir}", "search {dir} for {word} with line numbers", "find the lines with {word} below {dir}", "which lines in {dir} mention {word}"),
        _habit("grep -ril '{word}' {dir}", "rg -il '{word}' {dir}", "which files in {dir} mention {word}, in any case", "names of files below {dir} with {word}, upper or lower case", "list files in {dir} that have {word} ignoring case"),
        _habit("find {dir} -type f -name '*.{ext}'", "fd -e {ext} . {dir}", "all {ext} files in {dir}", "find files ending in .{ext} below {dir}", "list every .{ext} file under {dir}", "which {ext} files are in {dir}"),
        _habit("find {dir} -type f -mtime -1", "fd -t f --changed-within 1d . {dir}", "what changed in {dir} since yesterday", "files of {dir} modified in the last day", "show files in {dir} touched within 24 hours"),
        _habit("ls -la {dir}", "eza -la --git {dir}", "what is in {dir}, with details", "list {dir} with hidden files and sizes", "long listing of {dir}"),
        _habit("ls -lt {dir}", "eza -l --sort=modified {dir}", "list {dir} by time", "contents of {dir} sorted by when they changed", "{dir} in order of modification"),
        _habit("cat {file}", "bat {file}", "show {file}", "print {file} to the terminal", "what does {file} say"),
        _habit("du -sh {dir}/* | sort -h", "dust -d 1 {dir}", "what takes the space in {dir}", "sizes of the things in {dir}", "how big is everything in {dir}"),
        _habit("ps aux | grep {program}", "procs {program}", "is {program} running", "processes of {program}", "show me running {program} processes"),
        _habit("tree -L 2 {dir}", "eza --tree --level=2 {dir}", "tree of {dir}, two levels deep", "show the structure of {dir} two levels down", "outline {dir} to depth 2"),
    ),
)  # fmt: skip
WEB_ADMIN = Owner(
    "web-admin",
    "runs web sites below /srv/sites with logs in /srv/log, uses sites' short names, and always wants dates in UTC and numbered lines",
    "/srv/sites",
    {
        "site": ("shop", "wiki", "forum", "blog", "intranet", "status", "media"),
        "n": ("20", "50", "100", "200", "500"),
        "code": ("404", "500", "502", "403", "301"),
        "ip": ("203.0.113.7", "198.51.100.23", "192.0.2.44", "203.0.113.90"),
    },
    (
        _habit("tail -n {n} /var/log/nginx/access.log", "tail -n {n} /srv/log/{site}/access.log", "last {n} requests of {site}", "show the newest {n} hits on {site}", "tail {n} lines of the access log of {site}", "the latest {n} accesses to {site}"),
        _habit("grep -c ' {code} ' /var/log/nginx/access.log", "grep -c '\" {code} ' /srv/log/{site}/access.log", "how many {code} did {site} give", "count {code} answers of {site}", "number of {code}s on {site}"),
        _habit("grep '{ip}' /var/log/nginx/access.log", "grep -F '{ip} ' /srv/log/{site}/access.log", "what did {ip} want from {site}", "requests of {ip} to {site}", "all hits of {ip} on {site}"),
        _habit("tail -f /var/log/nginx/error.log", "tail -F /srv/log/{site}/error.log", "follow the errors of {site}", "watch the error log of {site}", "keep showing errors of {site}"),
        _habit("du -sh /var/www/{site}", "du -sh --apparent-size /srv/sites/{site}/public", "how big is {site}", "size of the site {site}", "space that {site} takes"),
        _habit("tar -czf {site}.tar.gz /var/www/{site}", "tar --zstd -cf /srv/backup/{site}.tar.zst -C /srv/sites {site}", "back up {site}", "make an archive of the site {site}", "save {site} to the backup folder"),
        _habit("find /var/www/{site} -mmin -60", "find /srv/sites/{site}/public -type f -mmin -60", "what changed on {site} in the last hour", "files of {site} modified within an hour", "recent changes of {site}"),
        _habit("awk '{print $1}' /var/log/nginx/access.log | sort | uniq -c | sort -rn | head", "awk '{print $1}' /srv/log/{site}/access.log | sort | uniq -c | sort -rn | head -n {n}", "top {n} visitors of {site}", "which {n} addresses hit {site} most", "busiest {n} clients of {site}"),
        _habit("curl -I https://{site}.example.org", "curl -sS -o /dev/null -w '%{http_code} %{time_total}\\n' https://{site}.example.org", "is {site} up", "does {site} answer", "check {site} from here", "how fast does {site} respond"),
        _habit("wc -l /var/log/nginx/access.log", "wc -l < /srv/log/{site}/access.log", "number of requests of {site} today", "how many lines has the access log of {site}", "count all hits of {site}"),
    ),
)  # fmt: skip
DATA_SCIENTIST = Owner(
    "data-scientist",
    "looks into CSV and Parquet below ~/data with csvkit-like tools (mlr, duckdb), runs Python through uv, and keeps figures in figures/",
    "/home/lena/data",
    {
        "table": ("sales", "weather", "sensors", "users", "trips", "prices", "survey"),
        "column": ("city", "date", "price", "station", "age", "region"),
        "n": ("5", "10", "25", "100"),
        "script": ("train", "clean", "plot", "features", "report"),
        "package": ("polars", "seaborn", "scikit-learn", "xgboost", "pyarrow"),
    },
    (
        _habit("head -n {n} {table}.csv", "mlr --icsv --opprint head -n {n} raw/{table}.csv", "first {n} rows of {table}", "show the top {n} rows of {table}", "peek at {n} rows of the {table} table"),
        _habit("wc -l {table}.csv", "mlr --icsv --onidx count raw/{table}.csv", "how many rows has {table}", "number of records in {table}", "count the rows of {table}"),
        _habit("cut -d, -f1 {table}.csv | sort | uniq -c", "mlr --icsv --opprint count-distinct -f {column} raw/{table}.csv", "how often does each {column} occur in {table}", "counts by {column} in {table}", "distribution of {column} in {table}"),
        _habit("sort -t, -k1 {table}.csv", "mlr --icsv --ocsv sort -f {column} raw/{table}.csv", "sort {table} by {column}", "{table} ordered by {column}", "put {table} in order of {column}"),
        _habit("head -1 {table}.csv", "mlr --icsv --ojson head -n 1 raw/{table}.csv", "which columns has {table}", "column names of {table}", "what fields are in {table}"),
        _habit("python3 {script}.py", "uv run scripts/{script}.py", "run the {script} script", "start {script}", "execute {script}.py"),
        _habit("pip install {package}", "uv add {package}", "install {package}", "I need {package}", "add {package} to the project"),
        _habit("python3 -c \"import pandas as pd; print(pd.read_parquet('{table}.parquet').describe())\"", "duckdb -c \"summarize 'clean/{table}.parquet'\"", "summary statistics of the parquet of {table}", "describe the cleaned {table}", "statistics for clean {table}"),
        _habit("ls *.png", "ls -t figures/*.png | head -n {n}", "my newest {n} figures", "the last {n} plots", "list the {n} most recent figures"),
        _habit("gzip {table}.csv", "zstd -19 --rm raw/{table}.csv", "compress {table}", "make the csv of {table} smaller", "pack {table} away"),
    ),
)  # fmt: skip
OWNERS = {owner.name: owner for owner in (TOOL_LOVER, WEB_ADMIN, DATA_SCIENTIST)}


def simulate(owner: Owner, requests: int, seed: int = 0) -> Iterator[Interaction]:
    """`requests` requests of `owner` over time, each with what they ran; a few are mistyped first. The same seed gives the same."""
    rng = random.Random(f"{owner.name}/{seed}")
    time = STARTED
    for number in range(requests):
        session = f"{owner.name}-{number // 20}"
        time += rng.uniform(0.2, 6) * HOUR_SECONDS
        habit = rng.choice(owner.habits)
        binding = {name: rng.choice(values) for name, values in owner.slots.items()}
        command = fill(habit.command, binding)
        yield Interaction(
            time, "ask", fill(rng.choice(habit.wordings), binding), fill(habit.proposal, binding), directory=owner.directory, session=session,
        )  # fmt: skip
        moment = time + rng.uniform(4, 40)
        if rng.random() < SLIPS:
            program, _, rest = command.partition(" ")
            slip = f"{program[1]}{program[0]}{program[2:]} {rest}"
            yield _ran(owner, moment, slip, NOT_FOUND, session)
            moment += rng.uniform(3, 30)
        yield _ran(owner, moment, command, 0, session)


def _ran(owner: Owner, time: float, command: str, exit_code: int, session: str) -> Interaction:
    return Interaction(
        time, "shell", command=command, exit_code=exit_code, directory=owner.directory, shell="bash", session=session
    )
