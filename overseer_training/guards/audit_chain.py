"""The lines of the audit log: what they may say, how they are chained and signed, and what is wrong with a chain.

Takes and gives bytes and records; opens no file. audit.py keeps the files.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from typing import Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from overseer_training.errors import UsageError

Event = Literal[
    "data-access", "training", "policy", "keys", "teacher-traffic", "promotion", "export", "deletion", "repair"
]
EVENTS: tuple[Event, ...] = get_args(Event)
# What an event may say. A value is a number, a hash or a name of one line: there is no field for contents.
NUMBERS = ("rows", "files", "requests", "bytes_sent", "bytes_received", "bytes_cut", "version")
HASHES = ("sha256", "model_sha256")
NAMES = (
    "action", "data_set", "source", "user", "run", "teacher", "model", "endpoint", "key", "decision", "path", "reason"
)  # fmt: skip
LONGEST_NAME = 200
SIGNATURE = b', "signature": "'
START = "0" * 64  # what the first line has for the hash of a line before it


@dataclasses.dataclass(frozen=True)
class Head:
    """How long the log is, the SHA-256 of its last line, and the offset in bytes where that line begins."""

    length: int = 0
    hash: str = START
    offset: int = 0

    def as_bytes(self) -> bytes:
        return f"overseer audit head\n{self.length}\n{self.hash}\n{self.offset}".encode()


def check_fields(event: str, fields: dict[str, Any]) -> None:
    """Refuse what the log must not hold.

    Raises:
        UsageError: an unknown event or field, or a value that is none of the field's kind.
    """
    if event not in EVENTS:
        raise UsageError(f"the audit log has no event {event!r}; it has {', '.join(EVENTS)}")
    for name, value in fields.items():
        if name in NUMBERS:
            fits = type(value) is int and abs(value) < 2**53
        elif name in HASHES:
            fits = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
        else:
            fits = name in NAMES and isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable()
        if not fits:
            raise UsageError(f"the audit log takes counts, hashes and short names, and not this value of {name!r}")


def make_line(last: Head, event: str, fields: dict[str, Any], signer: Ed25519PrivateKey | None) -> bytes:
    """The line that follows `last`, with its line feed."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    entry = {"index": last.length, "time": time, "event": event, **fields, "previous": last.hash}
    line = json.dumps(entry).encode()[:-1]
    return line + (SIGNATURE + signer.sign(line).hex().encode() + b'"}\n' if signer else b"}\n")


def hash_line(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def split_lines(content: bytes) -> tuple[list[bytes], bytes]:
    """The whole lines of `content` with their line feeds, and the torn one behind them (empty for none)."""
    *lines, torn = content.split(b"\n")
    return [line + b"\n" for line in lines], torn


def check_chain(lines: list[bytes]) -> list[str]:
    """Where `lines` are no chain: a line that was changed, taken out, put in or moved breaks it at the line behind."""
    problems, previous = [], START
    for index, line in enumerate(lines):
        try:
            entry = json.loads(line)
            if (entry["index"], entry["previous"]) != (index, previous):
                problems.append(f"line {index + 1} does not follow the line before it")
        except (ValueError, KeyError, TypeError):
            problems.append(f"line {index + 1} is no entry")
        previous = hash_line(line)
    return problems


def find_unsigned(lines: list[bytes], public_key: Ed25519PublicKey) -> tuple[int, list[str]]:
    """How many lines are unsigned before the first signed one, and which later ones have no signature of `public_key`."""
    before, problems, signed_yet = 0, [], False
    for number, line in enumerate(lines, start=1):
        signed, mark, signature = line.rpartition(SIGNATURE)
        if not mark and not signed_yet:
            before += 1
            continue
        signed_yet = True
        try:
            public_key.verify(bytes.fromhex(signature.removesuffix(b'"}\n').decode()), signed)
        except (InvalidSignature, ValueError):
            problems.append(f"line {number} has no signature of this key")
    return before, problems


def check_head(head: Head, lines: list[bytes], name: str) -> list[str]:
    """Whether `lines` go through `head`."""
    if head.length > len(lines):
        return [f"the log has {len(lines)} lines and {name} {head.length}: lines were cut off"]
    if (hash_line(lines[head.length - 1]) if head.length else START) != head.hash:
        return [f"line {head.length} is not the one of {name}"]
    return []


def sign_head(head: Head, signer: Ed25519PrivateKey) -> dict[str, Any]:
    """The document that audit.head.json holds."""
    return {**dataclasses.asdict(head), "signature": signer.sign(head.as_bytes()).hex()}


def read_head(document: Any, public_key: Ed25519PublicKey | None) -> Head:
    """The head in `document`, its signature verified where there is a key.

    Raises:
        InvalidSignature: it is not signed by `public_key`.
        ValueError, KeyError, TypeError: it is damaged.
    """
    head = Head(document["length"], document["hash"], document["offset"])
    if [type(value) for value in dataclasses.astuple(head)] != [int, str, int] or head.length < 1 or head.offset < 0:
        raise ValueError("values of another kind")
    if public_key is not None:
        public_key.verify(bytes.fromhex(document["signature"]), head.as_bytes())
    return head


def parse_known_head(text: str) -> Head:
    """The head in a line that somebody noted, `LENGTH:HASH`.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"\s*(\d{1,15}):([0-9a-f]{64})\s*", text)
    if match is None:
        raise UsageError("a noted head looks like 812:5f3c… (the length, and 64 hexadecimal digits); copy it again")
    return Head(int(match[1]), match[2])
