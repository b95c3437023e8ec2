"""Commands for what is learned from its owner: status, list, forget, pause, resume, hooks of shells, import, promote, rollback."""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from overseer_training.commands.model import LATEST, add_override, say_to_stderr
from overseer_training.config.flags import Parser
from overseer_training.errors import OverseerError, UsageError

UNKNOWN = "unknown time    "
SHOWN = 40  # interactions of `list`, unless --limit says otherwise
SHELLS = ("bash", "zsh", "fish")
PATTERN = "those with this text; with * ? or [ in it, those that are like it from beginning to end"


def add(commands: Any) -> None:
    """Add the parsers of this topic."""
    parser = commands.add_parser(
        "learn", help="what is kept of your work, and what is learned from it", allow_abbrev=False
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser, required=True)

    def action(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=text, allow_abbrev=False)
        made.set_defaults(run=run)
        return made

    action("status", _status, "what is kept, and whether anything more will be")
    listing = action("list", _list, "the interactions, newest last")
    listing.add_argument("--pattern", help=f"only {PATTERN}")
    listing.add_argument("--limit", type=int, default=SHOWN, metavar="N", help=f"only the newest N ({SHOWN})")
    listing.add_argument(
        "--improvements",
        action="store_true",
        help="only what made this machine better, by its telemetry: metric before -> after",
    )
    forget = action("forget", _forget, "delete interactions and every trace of them")
    forget.add_argument("ids", nargs="*", type=int, metavar="ID", help="numbers, as list shows them")
    forget.add_argument("--pattern", help=PATTERN)
    forget.add_argument("--since", type=_moment, metavar="DATE", help="2026-11-22 or 2026-11-22T18:30")
    forget.add_argument(
        "--until",
        type=_end,
        metavar="DATE",
        help="the same; a day is forgotten to its end, what has no known time stays",
    )
    forget.add_argument("--all", action="store_true", dest="everything", help="everything; with nothing else beside it")
    action("pause", _pause, "keep nothing more until resume")
    action("resume", _resume, "agree that requests and commands are kept, encrypted, to learn from")
    for name, run, text in (
        ("install-hook", _install_hook, "let a shell note what you run"),
        ("remove-hook", _remove_hook, "take the hook out of a shell again"),
    ):
        action(name, run, text).add_argument("shell", nargs="?", choices=SHELLS, help="the one you use, if not given")
    bring = action("import", _import, "shell history, or the table user_interactions of a SQLite file")
    bring.add_argument(
        "table", nargs="?", type=pathlib.Path, metavar="FILE", help="a SQLite file; shell history without"
    )
    take = action("promote", _promote, "let runs/latest point to a run, if its gate has nothing against it")
    take.add_argument("run_folder", type=pathlib.Path, metavar="RUN")
    add_override(take)
    back = action("rollback", _roll_back, "let runs/latest point to the model before the last promotion")
    back.add_argument("--latest", type=pathlib.Path, default=LATEST, metavar="LINK", help="(runs/latest)")


def _moment(text: str) -> float:
    """Seconds since 1970 at which a day or moment begins, in local time where it names no zone."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no date; write it as 2026-11-22 or 2026-11-22T18:30") from None


def _end(text: str) -> float:
    """As `_moment`, but the last moment of a day that has no time with it."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:  # with a time, or no date at all
        return _moment(text)
    return _moment(datetime.datetime.combine(day, datetime.time.max).isoformat())


@contextmanager
def _opened() -> Iterator[Any]:
    """The store, with everything that hooks have noted in it."""
    from overseer_training.data.sealed import owners_keys
    from overseer_training.learning.interaction import learning_folder
    from overseer_training.learning.spool import collect
    from overseer_training.learning.store import Store

    with Store(learning_folder(), owners_keys().data_key("interactions")) as store:
        collect(store)
        yield store


def remember(request: str, command: str) -> None:
    """Keep a request and what was proposed, if the owner agreed."""
    from overseer_training.learning.consent import read_consent
    from overseer_training.learning.interaction import Interaction, learning_folder

    if read_consent(learning_folder()) != "on":
        return
    session = os.environ.get("OVERSEER_SESSION", "")
    with _opened() as store:
        store.add(
            [Interaction(time.time(), "ask", request, command, directory=str(pathlib.Path.cwd()), session=session)]
        )


def _status(flags: argparse.Namespace) -> int:
    from overseer_training.learning.consent import read_consent
    from overseer_training.learning.interaction import learning_folder

    consent = read_consent(learning_folder())
    words = {
        "on": "interactions are kept, encrypted", "paused": "paused: overseer learn resume goes on",
        "off": "nothing is kept: overseer learn resume begins", "unasked": "nothing is kept: overseer learn resume begins",
    }  # fmt: skip
    print(words[consent])
    if consent in ("on", "paused"):
        with _opened() as store:
            status = store.status()
        counts = ", ".join(f"{number} of {source}" for source, number in sorted(status.counts.items())) or "none yet"
        print(f"interactions: {counts}")
        if status.oldest is not None and status.newest is not None:
            print(f"from {_day(status.oldest)} to {_day(status.newest)}, {status.size_bytes / 1024:.0f} KiB")
    return 0


def _list(flags: argparse.Namespace) -> int:
    if flags.improvements:
        return _list_improvements(flags.pattern, flags.limit)
    with _opened() as store:
        for found in store.list(flags.pattern, flags.limit):
            code = "" if found.exit_code is None else f" [{found.exit_code}]"
            said = f"{found.request!r} -> " if found.request else ""
            print(f"{found.id:>6}  {_day(found.time)}  {found.source:<7} {said}{found.command or found.proposal}{code}")
    return 0


def _list_improvements(pattern: str | None, limit: int) -> int:
    from overseer_training.learning.curate import objection
    from overseer_training.learning.effects import find_improvements
    from overseer_training.learning.store import is_like
    from overseer_training.telemetry.background import default_folder
    from overseer_training.telemetry.stored import read_stored

    stored = read_stored(default_folder())
    if stored is None:
        raise UsageError("there is no telemetry to see improvements in; collect some with: overseer telemetry start")
    with _opened() as store:
        found = find_improvements(store.list(), stored)
    shown = [one for one in found if pattern is None or is_like(one.command, pattern)]
    for one in shown[-limit:] if limit else shown:
        unit = " %" if one.metric.endswith("_percent") else ""
        change = f"{one.metric.removesuffix('_percent')} {one.before:.1f}{unit} -> {one.after:.1f}{unit}"
        why = objection(one)
        print(f"{_day(one.time)}  {change:<26}  {one.command}{f'  (not learned: {why})' if why else ''}")
    if not shown:
        print(
            "no command is known to have made this machine better; it takes the hook of a shell and some hours of telemetry"
        )
    return 0


def _forget(flags: argparse.Namespace) -> int:
    from overseer_training.custody import record

    def note(number: int) -> None:
        record("deletion", source="interactions", rows=number)

    with _opened() as store:
        number = store.forget(flags.ids, flags.pattern, flags.since, flags.until, flags.everything, before=note)
    print(f"{number} forgotten")
    return 0


def _pause(flags: argparse.Namespace) -> int:
    from overseer_training.learning.consent import write_consent
    from overseer_training.learning.interaction import learning_folder

    try:
        with _opened():
            pass
    except OverseerError as error:
        say_to_stderr(f"what the hooks noted until now is not stored, and will be deleted unread: {error}")
    finally:
        write_consent(learning_folder(), "paused")  # also where no key opens: nobody has to unlock a thing to say no
    print("paused: nothing more is kept")
    return 0


def _resume(flags: argparse.Namespace) -> int:
    from overseer_training.data.sealed import owners_keys
    from overseer_training.learning.consent import write_consent
    from overseer_training.learning.interaction import learning_folder

    owners_keys().data_key("interactions")  # says now, not at the first request, when there is no place for a key
    write_consent(learning_folder(), "on")
    print(
        "requests and commands are kept from now on, encrypted on this machine; overseer learn forget --all deletes them"
    )
    return 0


def _install_hook(flags: argparse.Namespace) -> int:
    from overseer_training.learning.hook import current_shell, install_hook
    from overseer_training.learning.interaction import learning_folder

    path = install_hook(flags.shell or current_shell(), learning_folder())
    print(f"hook written to {path}; it works in new shells, once `overseer learn resume` was said")
    return 0


def _remove_hook(flags: argparse.Namespace) -> int:
    from overseer_training.learning.hook import current_shell, remove_hook
    from overseer_training.learning.interaction import learning_folder

    shell = flags.shell or current_shell()
    print("hook removed" if remove_hook(shell, learning_folder()) else f"{shell} has no hook of ours")
    return 0


def _import(flags: argparse.Namespace) -> int:
    from overseer_training.data.sources.history import find_histories
    from overseer_training.learning.importers import import_history, import_table

    with _opened() as store:
        if flags.table is not None:
            number = import_table(store, flags.table)
        else:
            number = sum(import_history(store, found) for found in find_histories())
    print(f"{number} interactions imported")
    return 0


def _promote(flags: argparse.Namespace) -> int:
    from overseer_training.release import promote_run

    overridden = promote_run(flags.run_folder, flags.override)
    told = f", although it did not pass its gate: {overridden}" if overridden else ""
    print(f"{flags.run_folder.resolve().parent / 'latest'} is {flags.run_folder.resolve().name}{told}")
    return 0


def _roll_back(flags: argparse.Namespace) -> int:
    from overseer_training.custody import record
    from overseer_training.learning.gate import roll_back
    from overseer_training.run_folder import point_latest

    def note_and_point(champion: pathlib.Path) -> None:
        # Before it is done: a record that fails must not look like a rollback that failed, which repeated goes back once more.
        record("promotion", run=champion.name, decision="rolled back")
        point_latest(champion)

    champion = roll_back(flags.latest, note_and_point)
    print(f"{flags.latest} is {champion.name} again")
    return 0


def _day(seconds: float) -> str:
    """In local time, as wide for a time that is not known, or is of no year that there will be."""
    try:
        return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else UNKNOWN
    except (ValueError, OverflowError, OSError):
        return UNKNOWN
