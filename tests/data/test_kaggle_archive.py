"""Archives of strangers: good ones unpack, bad ones are refused with one line and leave nothing."""

from __future__ import annotations

import gzip
import io
import pathlib
import random
import shutil
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable

import pytest

from overseer_training.data.sources.kaggle.archive import Limits, extract
from overseer_training.errors import DataError

Archive = Callable[[pathlib.Path], None]


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> Archive:
    def write(path: pathlib.Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of the repeated names that these tests write
            for name, content in members:
                archive.writestr(name, content)

    return write


def tar_of(mode: str, *members: tarfile.TarInfo) -> Archive:
    def write(path: pathlib.Path) -> None:
        with tarfile.open(path, mode) as archive:
            for member in members:
                archive.addfile(member, io.BytesIO(b"x" * member.size))

    return write


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, link
    return member


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def raw_name(name: bytes, instead_of: bytes) -> Archive:
    """A zip with a name that zipfile itself would not write."""

    def write(path: pathlib.Path) -> None:
        zip_of((instead_of.decode(), b"x"))(path)
        path.write_bytes(path.read_bytes().replace(instead_of, name))

    return write


def flagged(flag: int) -> Archive:
    def write(path: pathlib.Path) -> None:
        zip_of(("a.csv", b"x"))(path)
        content = bytearray(path.read_bytes())
        content[content.index(b"PK\x01\x02") + 8] |= flag
        path.write_bytes(bytes(content))

    return write


def claiming(size: int) -> Archive:
    """A member of 1,000 bytes whose headers claim another size."""

    def write(path: pathlib.Path) -> None:
        zip_of(("a.csv", b"x" * 1000))(path)
        path.write_bytes(path.read_bytes().replace((1000).to_bytes(4, "little"), size.to_bytes(4, "little")))

    return write


def damaged(path: pathlib.Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", b"hello hello")
    path.write_bytes(path.read_bytes().replace(b"hello", b"jello", 1))


def claims_much(path: pathlib.Path) -> None:
    """An extended header that claims 4 GiB, which tarfile would read at once."""
    header = entry("pax", tarfile.XHDTYPE, 4 << 30).tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(gzip.compress(header + bytes(1024)))


REFUSED: list[tuple[str, Archive, str]] = [
    ("parent", zip_of(("a/../../b", b"x")), r"leads outside with '\.\.'"),
    ("absolute", zip_of(("/etc/x", b"x")), "has an absolute name"),
    ("drive", zip_of(("C:/x", b"x")), "has an absolute name"),
    ("backslash", zip_of(("..\\x", b"x")), "has an odd name"),
    ("nul", raw_name(b"a\0b.csv", b"a_b.csv"), "has an odd name"),
    ("escape sign", zip_of(("a\x1b[2J", b"x")), "has an odd name"),
    ("right-to-left sign", zip_of(("a\u202evsc.exe", b"x")), "has an odd name"),
    ("dot", zip_of(("./a", b"x")), "has an odd name"),
    ("long", zip_of(("a" * 256, b"x")), "too long a name"),
    ("deep", zip_of(("a/" * 40 + "b", b"x")), "too long a name"),
    ("twice", zip_of(("a", b"x"), ("a", b"y")), "comes twice"),
    ("twice on macOS", zip_of(("A.csv", b"x"), ("a.csv", b"y")), "comes twice"),
    ("twice by accent", zip_of(("\u00e9", b"x"), ("e\u0301", b"y")), "comes twice"),
    ("below a file", zip_of(("a", b"x"), ("a/b", b"y")), "lies below a file"),
    ("folder and file", zip_of(("a/b", b"x"), ("a", b"y")), "comes twice"),
    ("symbolic link", zip_of((special("a", stat.S_IFLNK | 0o777), b"/etc/passwd")), "is a link"),
    ("device", zip_of((special("a", stat.S_IFCHR | 0o666), b"")), "is a special file"),
    ("encrypted", flagged(1), "is encrypted"),
    ("more than claimed", claiming(10), "damaged"),
    ("less than claimed", claiming(1100), "does not have the 1,100 bytes that it claims"),
    ("wrong checksum", damaged, "damaged"),
    ("empty", zip_of(), "holds no files"),
    ("bomb", zip_of(*((f"{n}", bytes(200_000)) for n in range(10))), "more than 20 times its size"),
    ("large", zip_of(*((f"{n}", random.Random(n).randbytes(600_000)) for n in range(10))), "more than 5,000,000 bytes"),
    ("many", zip_of(*((f"{n}", b"") for n in range(60))), "more than 50 members"),
    ("tar parent", tar_of("w", entry("../x")), "leads outside"),
    ("tar absolute", tar_of("w", entry("/x")), "has an absolute name"),
    ("tar symbolic link", tar_of("w:gz", entry("a", tarfile.SYMTYPE, link="/etc/passwd")), "is a link"),
    ("tar hard link", tar_of("w:xz", entry("b", size=1), entry("a", tarfile.LNKTYPE, link="b")), "is a link"),
    ("tar device", tar_of("w:bz2", entry("a", tarfile.BLKTYPE)), "is a special file"),
    ("tar pipe", tar_of("w", entry("a", tarfile.FIFOTYPE)), "is a special file"),
    ("tar bomb", tar_of("w:gz", entry("a", size=2_000_000)), "more than 20 times its size"),
    ("tar header", claims_much, "a header claims"),
    ("no archive", lambda path: path.write_text("<html>sign in</html>" * 100) and None, "damaged or of an unknown kind"),
    ("nothing", lambda path: path.touch(), "damaged or of an unknown kind"),
]  # fmt: skip
LIMITS = Limits(members=50, total_bytes=5_000_000, ratio=20, ratio_from_bytes=1_000_000)


@pytest.mark.parametrize(("make", "problem"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_bad_archive_is_refused_with_one_line_and_leaves_nothing(
    tmp_path: pathlib.Path, make: Archive, problem: str
) -> None:
    archive = tmp_path / "in" / "archive"
    archive.parent.mkdir()
    make(archive)
    with pytest.raises(DataError, match=problem) as error:
        extract(archive, tmp_path / "in" / "out", LIMITS)
    assert "\n" not in str(error.value) and str(error.value).isprintable()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [
        pathlib.Path("in"),
        pathlib.Path("in/archive"),
    ]


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_a_good_archive_gives_its_files_without_its_modes(tmp_path: pathlib.Path, kind: str) -> None:
    archive = tmp_path / "archive"
    if kind == "zip":
        zip_of(
            (special("data/", stat.S_IFDIR), b""), (special("data/a b.csv", stat.S_IFREG | 0o4777), b"xx"), ("é", b"")
        )(archive)
    else:
        large = entry("data/a b.csv", size=2)
        large.mode = 0o4777
        tar_of(kind, entry("data/", tarfile.DIRTYPE), large, entry("é"))(archive)
    found = extract(archive, tmp_path / "out")
    assert [(str(path.relative_to(tmp_path / "out")), path.read_bytes()) for path in found] == [
        ("data/a b.csv", b"xx"), ("é", b""),
    ]  # fmt: skip
    assert found[0].stat().st_mode & 0o7111 == 0


def test_a_later_member_that_is_damaged_leaves_nothing_of_the_earlier_ones(tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.csv", b"good" * 1000)
        opened.writestr("b.csv", b"hello hello")
    archive.write_bytes(archive.read_bytes().replace(b"hello", b"jello", 1))
    with pytest.raises(DataError, match="damaged"):
        extract(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zip_of(("a.csv", b"xyz"))(tmp_path / "archive")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 8, 2))
    with pytest.raises(DataError, match="needs 3 bytes unpacked and 2 are free; make room"):
        extract(tmp_path / "archive", tmp_path / "out")
    assert not (tmp_path / "out").exists()
