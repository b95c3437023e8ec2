"""Interactions from elsewhere: the histories of shells, and a table `user_interactions` of another assistant.

Takes a history or the path of an SQLite file; gives the store what is new in it. The sources are only read.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import pathlib
import re
import sqlite3
from typing import Any

from overseer_training.data.sources.history import History, read_commands
from overseer_training.errors import DataError, UsageError
from overseer_training.learning.interaction import Interaction
from overseer_training.learning.store import LATEST, Store

TABLE = "user_interactions"
COLUMNS = ("id", "timestamp", "user_input", "ai_response", "user_feedback", "context", "success")
LIKED = {
    "1",
    "2",
    "4",
    "5",
    "positive",
    "good",
    "yes",
    "like",
    "liked",
    "thumbs_up",
    "helpful",
    "correct",
    "accepted",
    "up",
    "true",
    "+1",
}
DISLIKED = {
    "-1",
    "0",
    "negative",
    "bad",
    "no",
    "dislike",
    "disliked",
    "thumbs_down",
    "unhelpful",
    "wrong",
    "rejected",
    "down",
    "false",
}
CODE_BLOCK = re.compile(r"```[ \t]*(?:\w+[ \t]*\n)?(.*?)(?:```|$)", re.DOTALL)


def import_history(store: Store, history: History) -> int:
    """Commands of a shell's history without times and exit codes, those with secrets left out; gives the number of new ones.

    Raises:
        DataError: it cannot be read.
    """
    commands = read_commands(history)
    interactions = [Interaction(0, "history", command=command, shell=history.shell) for command in commands]
    return store.add(interactions, [_origin("history", history.shell, command) for command in commands])


def import_table(store: Store, path: pathlib.Path) -> int:
    """Rows of the table `user_interactions` in the SQLite file at `path`; gives the number of new ones.

    Raises:
        UsageError: there is no such file.
        DataError: it is no SQLite file, or has no such table.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give an SQLite file with a table {TABLE}")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            present = [row[1] for row in connection.execute(f"pragma table_info({TABLE})")]
            missing = [name for name in COLUMNS if name not in present]
            if missing:
                what = f"has a table {TABLE} without {', '.join(missing)}" if present else f"has no table {TABLE}"
                raise DataError(f"{path} {what}; its columns must be {', '.join(COLUMNS)}")
            rows = connection.execute(f"select {', '.join(COLUMNS)} from {TABLE} order by id").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found = [(_from_row(dict(zip(COLUMNS, row, strict=True))), row) for row in rows]
    kept = [(interaction, row) for interaction, row in found if interaction is not None]
    return store.add(
        [interaction for interaction, _ in kept], [_origin("table", row[0], row[1], row[2]) for _, row in kept]
    )


def _from_row(row: dict[str, Any]) -> Interaction | None:
    request, answer = (_text(row[name]) for name in ("user_input", "ai_response"))
    if not request or not answer:
        return None
    context = _context(row["context"])
    proposal = _command(answer)
    success = _text(row["success"]).lower()
    exit_code = None if not success else 0 if success in LIKED else 1
    feedback = _text(row["user_feedback"]).lower()
    return Interaction(
        time=_seconds(row["timestamp"]),
        source="table",
        request=request,
        proposal=proposal,
        command=proposal if exit_code is not None else "",
        exit_code=exit_code,
        stderr=_text(context.get("stderr") or context.get("error")),
        directory=_text(context.get("directory") or context.get("cwd")),
        shell=_text(context.get("shell")),
        feedback=1 if feedback in LIKED else -1 if feedback in DISLIKED else 0,
        session=_text(context.get("session")),
    )


def _command(answer: str) -> str:
    """The command of an answer: its code block, else the answer where that is one line; empty where there is none."""
    block = CODE_BLOCK.search(answer)
    text = (block[1] if block else answer).strip().strip("`").strip()
    return "" if "\n" in text else text.removeprefix("$ ")


def _context(value: Any) -> dict[str, Any]:
    try:
        document = json.loads(value) if isinstance(value, str) else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(value: Any) -> float:
    """Seconds since 1970 of a number or an ISO time (UTC where it names no zone); 0 for anything else, and for times before 1970.

    Args:
        value: a number, also as text, is in seconds, milli-, micro- or nanoseconds: the first that is before the year 5139.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return _seconds_of_iso(str(value))
    if not math.isfinite(seconds):
        return 0.0
    while seconds > LATEST:
        seconds /= 1000
    return max(seconds, 0.0)


def _seconds_of_iso(text: str) -> float:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    return seconds if 0 < seconds <= LATEST else 0.0


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _origin(*parts: Any) -> str:
    """Names where something comes from without saying what it is."""
    return f"{parts[0]}/{hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]}"
