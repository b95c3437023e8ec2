"""Unpacks archives of strangers: zip and tar, member by member, all or nothing.

Takes a file; gives the regular files in it below a folder that did not exist before. Every member is checked before the first byte is
written. Refused, each with one line: names that lead outside or are odd, links, devices, encrypted and repeated members, and
archives that unpack to more than `Limits`. Modes and owners are not taken over.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import lzma
import pathlib
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Protocol

from overseer_training.errors import DataError
from overseer_training.files import staged_folder

CHUNK_BYTES = 1 << 20
LONGEST_NAME_BYTES, LONGEST_PATH_BYTES, DEEPEST = 255, 1024, 32
DRIVE = re.compile(r"[A-Za-z]:")
ODD_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # of characters: control, invisible, unpaired, line separators
COMPRESSED: dict[bytes, Callable[[pathlib.Path], Any]] = {  # by the first two bytes
    b"\x1f\x8b": gzip.GzipFile,
    b"BZ": bz2.BZ2File,
    b"\xfd7": lzma.LZMAFile,
}
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an archive may become.

    Attributes:
        total_bytes: of all files together; chosen above the largest data set of the list (about 3.5 GB).
        ratio: unpacked over packed size, looked at from `ratio_from_bytes` on; web server logs pack about 20 to 1.
    """

    members: int = 20_000
    total_bytes: int = 8 << 30
    ratio: int = 200
    ratio_from_bytes: int = 10 << 20


DEFAULT_LIMITS = Limits()


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # "file", "folder", or why it is refused
    size: int
    handle: Any


class _Reader(Protocol):
    def members(self) -> Iterator[_Member]: ...

    def open(self, member: _Member) -> IO[bytes]: ...


class _Refused(Exception):
    """Why an archive is not unpacked."""


def extract(archive: pathlib.Path, target: pathlib.Path, limits: Limits = DEFAULT_LIMITS) -> list[pathlib.Path]:
    """Unpack `archive` to the folder `target`, which appears whole or not at all; the files in it, sorted.

    Raises:
        DataError: it is no archive, is damaged, is refused, or does not fit on the disk.
    """
    try:
        with _open(archive) as reader:
            members = _check(reader.members(), archive.stat().st_size, limits)
            target.parent.mkdir(parents=True, exist_ok=True)
            needed, free = sum(member.size for member in members), shutil.disk_usage(target.parent).free
            if needed > free:
                raise _Refused(f"needs {needed:,} bytes unpacked and {free:,} are free; make room and run again")
            with staged_folder(target) as staging:
                for member in members:
                    _write(reader, member, staging / member.name)
    except _Refused as error:
        raise DataError(f"{archive} is not unpacked: {error}") from error
    except UNREADABLE as error:
        raise DataError(f"{archive} is damaged or of an unknown kind ({error}); delete it and run again") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked to {target}: {error.strerror or error}") from error
    return sorted(target / member.name for member in members)


@contextlib.contextmanager
def _open(archive: pathlib.Path) -> Iterator[_Reader]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened_zip:
            yield _Zip(opened_zip)
        return
    with archive.open("rb") as file:
        unpack = COMPRESSED.get(file.read(2))
    with (
        unpack(archive) if unpack else archive.open("rb") as stream,
        tarfile.open(fileobj=_Bounded(stream), mode="r:") as opened_tar,  # type: ignore[call-overload]
    ):
        yield _Tar(opened_tar)


class _Zip:
    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._opened = opened

    def members(self) -> Iterator[_Member]:
        for info in self._opened.infolist():
            form = stat.S_IFMT(info.external_attr >> 16)
            if stat.S_ISLNK(form):
                kind = "a link"
            elif form not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a special file"
            elif info.is_dir():
                kind = "folder"
            else:
                kind = "encrypted" if info.flag_bits & 1 else "file"
            # `orig_filename`: zipfile cuts `filename` at the first NUL.
            yield _Member(info.orig_filename, kind, info.file_size, info)

    def open(self, member: _Member) -> IO[bytes]:
        return self._opened.open(member.handle)


class _Tar:
    def __init__(self, opened: tarfile.TarFile) -> None:
        self._opened = opened

    def members(self) -> Iterator[_Member]:
        for info in self._opened:
            if info.issym() or info.islnk():
                kind = "a link"
            elif info.issparse():
                kind = "a sparse file"
            elif info.isdir():
                kind = "folder"
            else:
                kind = "file" if info.isreg() else "a special file"
            yield _Member(info.name, kind, info.size, info)

    def open(self, member: _Member) -> IO[bytes]:
        opened = self._opened.extractfile(member.handle)
        assert opened is not None  # `_check` lets regular files through only
        return opened


class _Bounded:
    """A stream that gives at most `CHUNK_BYTES` at once: tarfile reads an extended header whole, of whatever size it claims."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK_BYTES:
            raise _Refused(f"a header claims {size:,} bytes")
        return self._stream.read(size)


def _check(members: Iterable[_Member], packed_bytes: int, limits: Limits) -> list[_Member]:
    """The files among `members`; stops at the first that is refused, before a tar stream is read beyond it."""
    files: list[_Member] = []
    seen: dict[str, str] = {}  # folded path -> "file" or "folder"
    total = 0
    for number, member in enumerate(members, start=1):
        problem = _name_problem(member.name)
        if problem is None and member.kind not in ("file", "folder"):
            problem = f"is {member.kind}"
        if problem is not None:
            raise _Refused(f"the member {_shown(member.name)} {problem}")
        total += member.size
        if number > limits.members:
            raise _Refused(f"it has more than {limits.members:,} members")
        if total > limits.total_bytes:
            raise _Refused(f"it unpacks to more than {limits.total_bytes:,} bytes")
        if total > max(limits.ratio_from_bytes, packed_bytes * limits.ratio):
            raise _Refused(f"it unpacks to more than {limits.ratio} times its size")
        # Folded, since file systems of macOS take A and a, or two spellings of one accent, for the same name.
        parts = unicodedata.normalize("NFC", member.name.rstrip("/")).casefold().split("/")
        for depth in range(1, len(parts)):
            if seen.setdefault("/".join(parts[:depth]), "folder") == "file":
                raise _Refused(f"the member {_shown(member.name)} lies below a file")
        path = "/".join(parts)
        if member.kind == "folder" and seen.get(path) != "file":
            seen[path] = "folder"
        elif path in seen:
            raise _Refused(f"the member {_shown(member.name)} comes twice")
        else:
            seen[path] = "file"
            files.append(member)
    if not files:
        raise _Refused("it holds no files")
    return files


def _name_problem(name: str) -> str | None:
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or DRIVE.match(name):
        return "has an absolute name"
    if ".." in parts:
        return "leads outside with '..'"
    if "\\" in name or "" in parts or "." in parts or any(unicodedata.category(c) in ODD_CATEGORIES for c in name):
        return "has an odd name"
    sizes = [len(part.encode()) for part in parts]
    if max(sizes) > LONGEST_NAME_BYTES or sum(sizes) + len(parts) > LONGEST_PATH_BYTES or len(parts) > DEEPEST:
        return "has too long a name"
    return None


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 60 else f"{name[:57]}...")


def _write(reader: _Reader, member: _Member, path: pathlib.Path) -> None:
    """Copy one member; neither library gives more bytes than it claims, and fewer are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with reader.open(member) as source, path.open("xb") as output:
        shutil.copyfileobj(source, output, CHUNK_BYTES)
        written = output.tell()
    if written != member.size:
        raise _Refused(f"the member {_shown(member.name)} does not have the {member.size:,} bytes that it claims")
