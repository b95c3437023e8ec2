"""What was done with the owner's data: an append-only log in which every line holds the hash of the line before it.

Takes events with counts, names and hashes, never contents; gives audit.jsonl, and audit.head.json beside it. Each line is signed
(Ed25519), and the head holds the log's length and last hash under a signature of its own, so that verification finds lines that were
changed, taken out, put in, put in another order, or cut off at the end.

    {"index": 4, "time": "…", "event": "training", "run": "…", "rows": 812, "previous": "SHA-256 of line 3", "signature": "…"}

    log = AuditLog(signer=open_keys().signing_key("audit"))
    log.append("training", run="20261123-0301", rows=812)

Several processes append at once under a lock. A line is on disk before the head is, and both before `append` returns: after a crash or
kill -9 the log has at most one signed line more than the head says, or a torn last line, which the next append cuts off and notes as
an event of its own.

What this does not stop. Who can sign can write another log: this user, root while this user is logged in (the key is in the keyring
or in memory), or a program that either of them runs. Who kept older copies of both files can put the pair back, and who deletes both
leaves nothing to verify. Against these a head helps that was noted elsewhere: `head_line` gives one to print or to send to another
machine, and `verify(known=…)` checks that the log still goes through it. Root can also keep the program from writing at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from overseer_training.errors import DataError, UsageError
from overseer_training.guards.audit_chain import (
    SIGNATURE,
    Event,
    Head,
    check_chain,
    check_fields,
    check_head,
    find_unsigned,
    hash_line,
    make_line,
    parse_known_head,
    read_head,
    sign_head,
    split_lines,
)
from overseer_training.guards.folders import make_private_folder, read_json, state_folder, write_private_json

KEEP_AS_EVIDENCE = (
    "see overseer audit verify, then move audit.jsonl and audit.head.json away as evidence: a new log begins"
)


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found in a log.

    Attributes:
        problems: signs that somebody changed it; none for a sound log.
        notes: what is worth knowing and needs no attacker.
    """

    entries: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


class AuditLog:
    """The log in a folder.

    Args:
        folder: this user's state folder when None.
        signer: signs what is appended. Without it lines are only chained, so that whoever can write the file can make others;
            a log that was ever signed takes no such lines.
    """

    def __init__(self, folder: pathlib.Path | None = None, signer: Ed25519PrivateKey | None = None) -> None:
        self._folder = folder or state_folder()
        self._signer = signer

    @property
    def path(self) -> pathlib.Path:
        return self._folder / "audit.jsonl"

    @property
    def head_path(self) -> pathlib.Path:
        return self._folder / "audit.head.json"

    def append(self, event: Event, **fields: str | int) -> None:
        """Add an event; it is on disk when this returns.

        Args:
            fields: some of NUMBERS, HASHES and NAMES in audit_chain.py.

        Raises:
            UsageError: a field that the log does not have, or a value that is none of its kind.
            DataError: the log cannot be written, or its end is not the one of its signed head; then nothing is added. Lines before
                that are looked at by `verify` alone, so that appending takes the same time in a long log.
        """
        check_fields(event, fields)
        make_private_folder(self._folder)
        try:
            with self._locked() as descriptor:
                head, torn = self._find_end(descriptor)
                if torn:
                    os.ftruncate(descriptor, os.fstat(descriptor).st_size - len(torn))
                    said = {"bytes_cut": len(torn), "sha256": hash_line(torn), "reason": "a torn last line was cut off"}
                    head = self._write(descriptor, head, "repair", said)
                head = self._write(descriptor, head, event, fields)
                if self._signer is not None:
                    write_private_json(self.head_path, sign_head(head, self._signer))
        except OSError as error:
            raise DataError(
                f"the audit log {self.path} cannot be written: {error.strerror}; make space for it, or mend its rights"
            ) from error

    def entries(
        self, event: Event | None = None, since: str = "", until: str = "", text: str = ""
    ) -> Iterator[dict[str, Any]]:
        """The entries, oldest first, without verifying them.

        Args:
            event: only those of this kind.
            since, until: only those of this time in UTC, ISO 8601 or the beginning of it ("2026-11"); both included.
            text: only those with this in them.
        """
        for line in split_lines(self._read())[0]:
            try:
                entry = json.loads(line)
                time = str(entry["time"])
            except (ValueError, KeyError, TypeError):
                continue  # `verify` says so
            within = since <= time and (not until or time[: len(until)] <= until)
            if within and event in (None, entry.get("event")) and text in line.decode():
                yield entry

    def head_line(self) -> str:
        """Length and hash of the log as it is now, one line to note elsewhere."""
        lines, _ = split_lines(self._read())
        return f"{len(lines)}:{hash_line(lines[-1]) if lines else Head().hash}"

    def verify(self, public_key: Ed25519PublicKey | None, known: str = "") -> Verification:
        """Check every line, the chain, the signatures and the head.

        Args:
            public_key: of the signer; None for a log without signatures, whose chain alone is checked.
            known: what `head_line` gave at an earlier time.

        Raises:
            UsageError: `known` is no head.
        """
        notes = []
        with self._locked(to_write=False):
            lines, torn = split_lines(self._read())
            head, problems = self._read_head(public_key)
        if torn:
            notes.append(
                f"the last line is torn ({len(torn)} bytes): a process was cut off; the next append removes it"
            )
        problems += check_chain(lines)
        if public_key is None:
            notes.append("signatures were not checked: whoever can write the file can have written all of it")
        else:
            unsigned, found = find_unsigned(lines, public_key)
            problems += found
            if unsigned:
                notes.append(f"the first {unsigned} lines are unsigned: they are older than the signatures")
            if head is None and len(lines) > unsigned + 1 and not problems:
                problems.append("there is no signed head: lines may be missing at the end")
        if head is not None:
            problems += check_head(head, lines, "the signed head")
            if len(lines) == head.length + 1:
                notes.append("the last line is newer than the head: a process was cut off between the two")
            elif len(lines) > head.length:
                problems.append(f"{len(lines) - head.length} lines are newer than the head")
        if known:
            problems += check_head(parse_known_head(known), lines, "the head noted elsewhere")
        return Verification(len(lines), tuple(problems), tuple(notes))

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DataError(f"the audit log {self.path} cannot be read: {error.strerror}") from error

    @contextlib.contextmanager
    def _locked(self, to_write: bool = True) -> Iterator[int]:
        """A descriptor of the log; nobody else writes it in the block."""
        if not to_write and not self.path.exists():
            yield -1
            return
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if to_write else os.O_RDONLY
        try:
            descriptor = os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be opened: {error.strerror}; it must be a plain file of yours"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if to_write else fcntl.LOCK_SH)
            yield descriptor
        finally:
            os.close(descriptor)

    def _find_end(self, descriptor: int) -> tuple[Head, bytes]:
        """Where the chain goes on, and the torn line behind that; reads only what stands from the head's line on.

        Raises:
            DataError: the log does not go on from its head.
            UsageError: it is signed and this writer cannot sign.
        """
        public_key = self._signer.public_key() if self._signer else None
        signed, problems = self._read_head(public_key)
        if self._signer is None and (signed or problems):
            raise UsageError(
                f"the audit log {self.path} is signed, and its key is locked; set OVERSEER_PASSPHRASE, or unlock the keyring"
            )
        begin = signed.offset if signed else 0
        size = os.fstat(descriptor).st_size
        lines, torn = split_lines(os.pread(descriptor, max(0, size - begin), begin))
        if signed and not (lines and hash_line(lines[0]) == signed.hash):
            problems.append("its last signed line is missing or was changed")
        if public_key is not None:
            problems += find_unsigned(lines, public_key)[1]
            # One is what a process leaves that was cut off while it wrote the first.
            if not signed and sum(SIGNATURE in line for line in lines) > 1:
                problems.append("its signed head is missing")
        if problems:
            raise DataError(f"the audit log {self.path} was changed: {problems[0]}; {KEEP_AS_EVIDENCE}")
        if not lines:
            return Head(), torn
        first = signed.length if signed else 1
        offset = size - len(torn) - len(lines[-1])
        return Head(first + len(lines) - 1, hash_line(lines[-1]), offset), torn

    def _write(self, descriptor: int, last: Head, event: Event, fields: dict[str, Any]) -> Head:
        line = make_line(last, event, fields, self._signer)
        offset = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, offset)
            raise
        return Head(last.length + 1, hash_line(line), offset)

    def _read_head(self, public_key: Ed25519PublicKey | None) -> tuple[Head | None, list[str]]:
        """The head, and what is wrong with it."""
        try:
            return read_head(read_json(self.head_path), public_key), []
        except FileNotFoundError:
            return None, []
        except InvalidSignature:
            return None, [f"{self.head_path.name} is not signed by this key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return None, [f"{self.head_path.name} cannot be read ({error or type(error).__name__})"]


def format_entry(entry: dict[str, Any]) -> str:
    """One line for `overseer audit show`."""
    plain = ("index", "time", "event", "previous", "signature")
    said = " ".join(f"{name}={value}" for name, value in entry.items() if name not in plain)
    return f"{entry.get('time')}  {entry.get('event'):<15} {said}"
