"""Interactions on disk: one SQLite file, encrypted as a whole by SQLCipher, without secrets, for several processes at once.

Takes interactions; gives them back, and forgets them so that no copy is left in the file. The key is one of `guards/keys.py`: in the
keyring of the operating system, or made from a passphrase. Nothing is kept in the clear.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from overseer_training.errors import DataError, NotAvailableError, UsageError
from overseer_training.guards.folders import make_private_folder
from overseer_training.guards.secrets import LONGEST_CHARACTERS, remove_from_all
from overseer_training.learning.consent import State, read_consent
from overseer_training.learning.interaction import Interaction

FORMAT = 1
FILE = "interactions.db"
WAIT_SECONDS = 30  # for another process that writes
STDERR_CHARACTERS = 2000
LATEST = 1e11  # seconds since 1970; larger numbers were milliseconds or less, which imports once took for seconds
TEXTS = ("request", "proposal", "command", "stderr", "directory")
COLUMNS = tuple(field.name for field in dataclasses.fields(Interaction) if field.name != "id")
SCHEMA = f"""
create table if not exists interactions (
    id integer primary key, time real not null, source text not null, request text not null, proposal text not null, command text not null,
    exit_code integer, stderr text not null, directory text not null, shell text not null, feedback integer not null, session text not null);
create table if not exists seen (origin text primary key, time real not null) without rowid;
pragma user_version = {FORMAT};
"""


@dataclasses.dataclass(frozen=True)
class Status:
    """What the store holds.

    Attributes:
        counts: interactions by source.
        oldest, newest: seconds since 1970, of those whose time is known; None where there are none.
        size_bytes: with the write-ahead log.
    """

    consent: State
    counts: dict[str, int]
    oldest: float | None
    newest: float | None
    size_bytes: int


class Store:
    """The store in `folder`, made if it is not there; to be closed, or used with `with`.

    Args:
        key: 32 bytes; `open_keys(ask=…).data_key("interactions")`.

    Raises:
        UsageError: the key is wrong.
        DataError: the file is damaged, or of a newer version.
    """

    def __init__(self, folder: pathlib.Path, key: bytes) -> None:
        import sqlcipher3  # type: ignore[import-untyped]

        self.folder = make_private_folder(folder)
        self._path = folder / FILE
        self._error = sqlcipher3.DatabaseError
        try:
            self._connection: Any = sqlcipher3.connect(
                str(self._path), timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(f"pragma key = \"x'{key.hex()}'\"")
            version = self._first("pragma user_version")
            if version > FORMAT:
                raise DataError(f"{self._path} was written by a newer version of Overseer; update it")
            self._connection.execute("pragma secure_delete = on")
            if version < FORMAT:
                self._path.chmod(0o600)
                with self._writing():
                    for statement in SCHEMA.strip().split(";\n"):
                        self._connection.execute(statement)
            if self._first("pragma journal_mode") != "wal":
                self._connection.execute("pragma journal_mode = wal")
        except sqlcipher3.DatabaseError as error:
            if "not a database" in str(error):
                raise UsageError(
                    f"{self._path} does not open with this key; give the right passphrase, or put back a copy if the file is damaged"
                ) from error
            raise DataError(f"{self._path} cannot be opened: {error}") from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def add(self, interactions: Iterable[Interaction], origins: Sequence[str] = ()) -> int:
        """Take out secrets and keep what is left; gives the number of new ones.

        Args:
            origins: for each interaction where it comes from; one from an origin that was seen before is left out.

        Raises:
            NotAvailableError: the owner did not agree, or paused.
        """
        if read_consent(self.folder) != "on":
            raise NotAvailableError("interactions are not collected; to change that: overseer learn resume")
        rows = [tuple(getattr(clean, name) for name in COLUMNS) for clean in map(without_secrets, interactions)]
        marks = ", ".join("?" * len(COLUMNS))
        count = 0
        with self._writing():
            for number, row in enumerate(rows):
                if not origins or self._mark(origins[number]):
                    self._connection.execute(f"insert into interactions ({', '.join(COLUMNS)}) values ({marks})", row)
                    count += 1
        return count

    def mark_seen(self, origins: Iterable[str]) -> None:
        """Leave out what comes from these origins later."""
        with self._writing():
            for origin in origins:
                self._mark(origin)

    def _mark(self, origin: str) -> bool:
        found = self._connection.execute("insert or ignore into seen values (?, ?)", (origin, time.time()))
        return bool(found.rowcount == 1)

    def list(self, pattern: str | None = None, limit: int | None = None) -> list[Interaction]:
        """Oldest first; with `limit`, the newest ones.

        Args:
            pattern: a text in a request, a proposal, a command, an error message or a directory; one with `*`, `?` or `[` in it is as
                file names have them (`rm -r *`) and fits from beginning to end.
        """
        with self._translated():
            rows = self._connection.execute(
                f"select {', '.join(COLUMNS)}, id from interactions order by time, id"
            ).fetchall()
        found = [Interaction(*row) for row in rows]
        if pattern is not None:
            found = [interaction for interaction in found if _matches(interaction, pattern)]
        return found[-limit:] if limit else found

    def give_feedback(self, identity: int, feedback: int) -> None:
        """Keep whether the owner liked (1) or disliked (-1) an answer.

        Raises:
            UsageError: there is no such interaction.
        """
        with self._writing():
            changed = self._connection.execute(
                "update interactions set feedback = ? where id = ?", (feedback, identity)
            )
        if not changed.rowcount:
            raise UsageError(f"there is no interaction {identity}; see: overseer learn list")

    def forget(
        self,
        identities: Sequence[int] = (),
        pattern: str | None = None,
        since: float | None = None,
        until: float | None = None,
        everything: bool = False,
        before: Callable[[int], None] = lambda number: None,
    ) -> int:
        """Delete interactions and every trace of them in the file; gives their number.

        Args:
            pattern: as of `list`.
            since, until: seconds since 1970, both included; what has no known time is in no span.
            before: told the number before anything is deleted; what it raises keeps all as it was.

        Raises:
            UsageError: nothing says which ones, or all and some at once.
        """
        chosen = bool(identities) or any(given is not None for given in (pattern, since, until))
        if everything and chosen:
            raise UsageError("--all forgets everything, whatever else was said; leave it out, or the rest")
        if not (chosen or everything) or pattern == "":  # an empty text is in everything
            raise UsageError("say what to forget: numbers, --pattern with a text, --since, --until or --all")
        doomed = [
            interaction.id
            for interaction in self.list(pattern)
            if everything or _is_meant(interaction, identities, since, until)
        ]
        before(len(doomed))
        with self._writing():
            self._connection.executemany("delete from interactions where id = ?", [(identity,) for identity in doomed])
        with self._translated():
            self._connection.execute("vacuum")
            self._connection.execute("pragma wal_checkpoint(truncate)")
        return len(doomed)

    def status(self) -> Status:
        """What is kept, and whether anything more will be."""
        with self._translated():
            counts = dict(
                self._connection.execute("select source, count(*) from interactions group by source").fetchall()
            )
            oldest, newest = self._connection.execute(
                "select min(time), max(time) from interactions where time > 0 and time <= ?", (LATEST,)
            ).fetchone()
        return Status(
            read_consent(self.folder),
            counts,
            oldest,
            newest,
            sum(path.stat().st_size for path in self.folder.glob(f"{FILE}*")),
        )

    def _first(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()[0]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, for which other processes wait."""
        with self._translated():
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise DataError(f"{self._path}: {error}; is the disk full, or the file damaged?") from error


def without_secrets(interaction: Interaction) -> Interaction:
    """The same with its secrets taken out; one that its request shows goes from its command and message too."""
    texts = [getattr(interaction, name)[: LONGEST_CHARACTERS if name == "stderr" else None] for name in TEXTS]
    clean: dict[str, Any] = {name: found.text for name, found in zip(TEXTS, remove_from_all(texts), strict=True)}
    clean["stderr"] = clean["stderr"][:STDERR_CHARACTERS]
    return dataclasses.replace(interaction, **clean)


def is_like(text: str, pattern: str) -> bool:
    """Whether `text` fits `pattern`, or holds it where it has no `*`, `?` or `[`."""
    return fnmatch.fnmatch(text, pattern) if set(pattern) & set("*?[") else pattern in text


def _matches(interaction: Interaction, pattern: str) -> bool:
    return any(is_like(getattr(interaction, name), pattern) for name in TEXTS)


def _is_meant(interaction: Interaction, identities: Sequence[int], since: float | None, until: float | None) -> bool:
    """Whether every criterion that was given fits."""
    return (
        (not identities or interaction.id in identities)
        and ((since is None and until is None) or 0 < interaction.time <= LATEST)
        and (since is None or interaction.time >= since)
        and (until is None or interaction.time <= until)
    )
