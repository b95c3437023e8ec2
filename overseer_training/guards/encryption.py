"""Files with rows of a sensitive source, encrypted at rest and read line by line, without plaintext on disk.

Takes lines and the keys of keys.py; gives files that are written whole or not at all. Memory is one chunk, whatever the file's size.

A file is a header and chunks, in the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár ("Online Authenticated-Encryption
and its Nonce-Reuse Misuse-Resistance", 2015), as age and Tink use it:

    "OVSENC01", length of the header (4 bytes, big endian), header (JSON: set, title, key version, chunk size, salt)
    chunk 0, chunk 1, ...    each chunk_bytes of plaintext (the last one: what is left), AES-256-GCM, a tag of 16 bytes

The key of a file is HKDF-SHA256 of the set's key, its salt and its header: a changed header, or a chunk of another file, does not open.
A chunk's nonce is its index; index and "this is the last chunk" are associated data: chunks that were moved, repeated, left out or cut
off do not open. The title is the name that the file was written under, so that one file cannot take another's place.

Not covered: the size of a file, its title and its set can be seen; an older file of the same title can be put back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import secrets
from collections.abc import Iterable, Iterator
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from overseer_training.errors import DataError
from overseer_training.files import staged_file
from overseer_training.guards.keys import Keys

MAGIC = b"OVSENC01"
CHUNK_BYTES = 64 * 1024  # chosen, as age does
LARGEST_CHUNK_BYTES = 16 * 1024 * 1024
LARGEST_HEADER_BYTES = 4096
LONGEST_LINE_BYTES = 16 * 1024 * 1024
TAG_BYTES = 16
MOST_CHUNKS = 1 << 32  # far below what one key may encrypt with AES-GCM and a counter


@dataclasses.dataclass(frozen=True)
class Header:
    """The readable start of an encrypted file."""

    set_name: str
    title: str
    key_version: int
    chunk_bytes: int
    salt: str

    def as_bytes(self) -> bytes:
        document = json.dumps(dataclasses.asdict(self)).encode()
        return MAGIC + len(document).to_bytes(4, "big") + document


class Writer:
    """Takes plaintext and encrypts it; `write_encrypted` makes it."""

    def __init__(self, handle: IO[bytes], header: Header, keys: Keys) -> None:
        self._handle = handle
        start = header.as_bytes()
        self._sealer = _Sealer(header, start, keys)
        self._chunk_bytes = header.chunk_bytes
        self._waiting = bytearray()
        handle.write(start)

    def write(self, content: bytes) -> None:
        """Encrypt `content`; a chunk is written once something follows it, since the last one is marked."""
        self._waiting += content
        while len(self._waiting) > self._chunk_bytes:
            self._handle.write(self._sealer.seal(bytes(self._waiting[: self._chunk_bytes]), is_last=False))
            del self._waiting[: self._chunk_bytes]

    def write_line(self, line: str) -> None:
        """Encrypt `line` and a line feed. Raises DataError: it has a line feed in it, or is too long to be read again."""
        content = line.encode()
        if b"\n" in content or len(content) >= LONGEST_LINE_BYTES:
            raise DataError("a row has a line feed in it or is longer than 16 MiB; write it as one line of JSON")
        self.write(content + b"\n")

    def finish(self) -> None:
        """Write the last chunk, which may be empty."""
        self._handle.write(self._sealer.seal(bytes(self._waiting), is_last=True))


@contextlib.contextmanager
def write_encrypted(path: pathlib.Path, set_name: str, keys: Keys, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Writer]:
    """A writer whose content becomes `path` when the block ends without an error, and vanishes otherwise.

    Args:
        set_name: the key of `keys` that opens it.
    """
    keys.data_key(set_name)  # makes the first version of a new key
    header = Header(set_name, path.name, keys.newest_version(set_name), chunk_bytes, secrets.token_hex(16))
    try:
        with staged_file(path) as staging, staging.open("wb") as handle:
            writer = Writer(handle, header, keys)
            yield writer
            writer.finish()
        path.chmod(0o600)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}; make space, or mend the folder's rights"
        ) from error


def write_lines(path: pathlib.Path, lines: Iterable[str], set_name: str, keys: Keys) -> int:
    """Encrypt `lines` to `path`; gives their number."""
    count = 0
    with write_encrypted(path, set_name, keys) as writer:
        for line in lines:
            writer.write_line(line)
            count += 1
    return count


def read_lines(path: pathlib.Path, set_name: str, keys: Keys) -> Iterator[str]:
    """The lines of `path`, each as soon as its chunk is verified.

    A file that was cut off is found at its end: who must not act on a part of a file collects all lines first.

    Raises:
        DataError: the file is not of this set and name, or was changed, cut off or moved.
    """
    rest = b""
    for chunk in read_chunks(path, set_name, keys):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in complete)
        if len(rest) > LONGEST_LINE_BYTES:
            raise DataError(f"{path} has a line of more than 16 MiB; it was not written by write_lines")
    if rest:
        yield rest.decode()


def read_chunks(path: pathlib.Path, set_name: str, keys: Keys) -> Iterator[bytes]:
    """The plaintext of `path`, chunk by chunk; raises what `read_lines` does."""
    try:
        handle = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    with handle:
        header, start = _read_header(handle, path)
        if (header.set_name, header.title) != (set_name, path.name):
            raise DataError(
                f"{path} was written as {header.title!r} of {header.set_name!r}, not as {path.name!r} of {set_name!r}; "
                "put the right file there"
            )
        opener = _Sealer(header, start, keys)
        sealed_bytes = header.chunk_bytes + TAG_BYTES
        current = handle.read(sealed_bytes)
        while True:
            following = handle.read(sealed_bytes)
            try:
                content = opener.open(current, is_last=not following)
            except (InvalidTag, ValueError) as error:
                where = f"chunk {opener.index} of {path}"
                raise DataError(f"{where} was changed, moved or cut off; put back a copy of that file") from error
            yield content
            if not following:
                return
            current = following


def read_header(path: pathlib.Path) -> Header:
    """What `path` says of itself; verified only when its chunks are read. Raises DataError: it is no encrypted file."""
    try:
        with path.open("rb") as handle:
            return _read_header(handle, path)[0]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def is_encrypted(path: pathlib.Path) -> bool:
    """Whether `path` begins like an encrypted file."""
    with path.open("rb") as handle:
        return handle.read(len(MAGIC)) == MAGIC


def reencrypt(path: pathlib.Path, keys: Keys) -> bool:
    """Write `path` again under the newest version of its key, whole or not at all; False when it has that already.

    After `keys.rotate_data_key(name)` and this for every file of the set, `keys.drop_old_versions(name)` ends the rotation.
    """
    header = read_header(path)
    if header.key_version == keys.newest_version(header.set_name):
        return False
    with write_encrypted(path, header.set_name, keys, header.chunk_bytes) as writer:
        for chunk in read_chunks(path, header.set_name, keys):
            writer.write(chunk)
    return True


class _Sealer:
    """Seals or opens the chunks of one file in order."""

    def __init__(self, header: Header, start: bytes, keys: Keys) -> None:
        data_key = keys.data_key(header.set_name, header.key_version)
        derivation = HKDF(SHA256(), 32, salt=bytes.fromhex(header.salt), info=start)
        self._cipher = AESGCM(derivation.derive(data_key))
        self.index = 0

    def seal(self, content: bytes, *, is_last: bool) -> bytes:
        if self.index >= MOST_CHUNKS:
            raise DataError("too much for one encrypted file; write several")
        sealed = self._cipher.encrypt(self._nonce(), content, _place(self.index, is_last))
        self.index += 1
        return sealed

    def open(self, sealed: bytes, *, is_last: bool) -> bytes:
        content = self._cipher.decrypt(self._nonce(), sealed, _place(self.index, is_last))
        self.index += 1
        return content

    def _nonce(self) -> bytes:
        return self.index.to_bytes(12, "big")


def _place(index: int, is_last: bool) -> bytes:
    return index.to_bytes(8, "big") + (b"last" if is_last else b"more")


def _read_header(handle: IO[bytes], path: pathlib.Path) -> tuple[Header, bytes]:
    """The header, and its bytes as they stand in the file."""
    start = handle.read(len(MAGIC) + 4)
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if start[: len(MAGIC)] != MAGIC or not 0 < length <= LARGEST_HEADER_BYTES:
        raise DataError(
            f"{path} is not an encrypted file of this program; remove it, or encrypt it again from its source"
        )
    try:
        raw = handle.read(length)
        document: dict[str, Any] = json.loads(raw)
        header = Header(**document)
        if [type(value) for value in dataclasses.astuple(header)] != [str, str, int, int, str]:
            raise ValueError("fields of another type")
        if not 0 < header.chunk_bytes <= LARGEST_CHUNK_BYTES or len(bytes.fromhex(header.salt)) != 16:
            raise ValueError("sizes out of bounds")
        if header.key_version < 1:
            raise ValueError("no version of a key")
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} has a damaged header ({error}); put back a copy of that file") from error
    return header, start + raw
