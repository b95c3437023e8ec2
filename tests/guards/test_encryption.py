"""Encrypted rows: nothing readable on disk, and no change to a file goes unnoticed."""

from __future__ import annotations

import itertools
import pathlib
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overseer_training.errors import DataError, OverseerError
from overseer_training.guards.encryption import (
    MAGIC,
    TAG_BYTES,
    is_encrypted,
    read_chunks,
    read_header,
    read_lines,
    reencrypt,
    write_encrypted,
    write_lines,
)
from overseer_training.guards.keys import Keys, open_keys
from overseer_training.guards.master_key import VARIABLE, KdfParameters

CHUNK = 64
MARKER = "marker-of-a-private-row"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "several quiet words")
        return open_keys(tmp_path_factory.mktemp("state") / "s", kdf=KdfParameters(19 * 1024, 2, 1))


def write(path: pathlib.Path, lines: list[str], keys: Keys) -> tuple[bytes, list[bytes]]:
    """The header and the sealed chunks of a file with chunks of 64 bytes."""
    with write_encrypted(path, "history", keys, CHUNK) as writer:
        for line in lines:
            writer.write_line(line)
    content = path.read_bytes()
    begin = len(MAGIC) + 4 + int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4], "big")
    size = CHUNK + TAG_BYTES
    return content[:begin], [content[at : at + size] for at in range(begin, len(content), size)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))),
    chunk=st.integers(1, 200),
)
def test_rows_come_back_as_they_were(tmp_path: pathlib.Path, keys: Keys, lines: list[str], chunk: int) -> None:
    with write_encrypted(tmp_path / "rows", "history", keys, chunk) as writer:
        for line in lines:
            writer.write_line(line)
    assert list(read_lines(tmp_path / "rows", "history", keys)) == lines


def test_no_row_is_readable_in_the_folder_neither_after_writing_reading_nor_failing(
    tmp_path: pathlib.Path, keys: Keys
) -> None:
    rows = [f"{MARKER} {number}" for number in range(5000)]
    assert write_lines(tmp_path / "rows", rows, "history", keys) == 5000
    assert list(read_lines(tmp_path / "rows", "history", keys)) == rows
    with pytest.raises(ZeroDivisionError):
        write_lines(tmp_path / "others", (row for row in [*rows, 1 // 0]), "history", keys)  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError), write_encrypted(tmp_path / "rows", "history", keys) as writer:
        writer.write(MARKER.encode() * 10_000)
        for path in tmp_path.iterdir():  # what a process that is killed here would leave
            assert MARKER.encode() not in path.read_bytes()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    assert MARKER.encode() not in (tmp_path / "rows").read_bytes()
    assert list(read_lines(tmp_path / "rows", "history", keys)) == rows
    assert (tmp_path / "rows").stat().st_mode & 0o077 == 0 and is_encrypted(tmp_path / "rows")


def test_chunks_cannot_be_moved_repeated_left_out_or_cut_off(tmp_path: pathlib.Path, keys: Keys) -> None:
    path = tmp_path / "rows"
    header, chunks = write(path, [f"row {number:03d} " + "x" * 20 for number in range(8)], keys)
    assert len(chunks) == 4
    orders = [list(order) for count in range(5) for order in itertools.permutations(range(4), count)]
    orders += [[0, 1, 2, 3, 3], [0, 1, 1, 2, 3], [0, 0, 1, 2, 3], [0, 1, 2, 3, 0]]
    for order in orders:
        path.write_bytes(header + b"".join(chunks[number] for number in order))
        if order == [0, 1, 2, 3]:
            assert len(list(read_lines(path, "history", keys))) == 8
            continue
        with pytest.raises(DataError, match="changed, moved or cut off"):
            list(read_lines(path, "history", keys))


def test_no_byte_can_be_changed_cut_off_or_added(tmp_path: pathlib.Path, keys: Keys) -> None:
    path = tmp_path / "rows"
    write(path, ["one row", "another row that goes on for a while, so that there are two chunks"], keys)
    content = path.read_bytes()
    changed = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 2)]
    for other in [*changed, *(content[:at] for at in range(0, len(content), 9)), content + b"\0", content + content]:
        path.write_bytes(other)
        with pytest.raises(OverseerError) as caught:
            list(read_lines(path, "history", keys))
        assert "\n" not in str(caught.value)


def test_equal_chunks_of_a_file_are_not_equal_on_disk(tmp_path: pathlib.Path, keys: Keys) -> None:
    _, chunks = write(tmp_path / "rows", ["x" * (CHUNK - 1)] * 4, keys)
    assert len({chunk[:CHUNK] for chunk in chunks}) == 4


def test_a_chunk_of_another_file_does_not_open(tmp_path: pathlib.Path, keys: Keys) -> None:
    path = tmp_path / "rows"
    rows = ["row " + "x" * 60 for _ in range(3)]
    header, chunks = write(path, rows, keys)
    _, others = write(path, rows, keys)
    assert not set(chunks) & set(others)
    for number in range(len(chunks)):
        path.write_bytes(header + b"".join([*chunks[:number], others[number], *chunks[number + 1 :]]))
        with pytest.raises(DataError, match=f"chunk {number} "):
            list(read_lines(path, "history", keys))


def test_a_file_cannot_take_the_place_of_another_or_of_another_set(tmp_path: pathlib.Path, keys: Keys) -> None:
    write_lines(tmp_path / "train", ["row"], "history", keys)
    (tmp_path / "train").rename(tmp_path / "test")
    with pytest.raises(DataError, match="written as 'train' of 'history', not as 'test'"):
        list(read_lines(tmp_path / "test", "history", keys))
    (tmp_path / "test").rename(tmp_path / "train")
    with pytest.raises(DataError, match="of 'telemetry'"):
        list(read_lines(tmp_path / "train", "telemetry", keys))


@pytest.mark.parametrize("change", [(b'"train"', b'"tests"'), (b'"history"', b'"History"'), (b"64,", b"64 ,")])
def test_a_header_cannot_be_rewritten(tmp_path: pathlib.Path, keys: Keys, change: tuple[bytes, bytes]) -> None:
    header, chunks = write(tmp_path / "train", ["row"], keys)
    keys.data_key("History")
    document = header[len(MAGIC) + 4 :].replace(*change)
    assert document != header[len(MAGIC) + 4 :]
    path = tmp_path / ("tests" if b"tests" in document else "train")
    path.write_bytes(MAGIC + len(document).to_bytes(4, "big") + document + b"".join(chunks))
    with pytest.raises(DataError, match="changed, moved or cut off"):
        list(read_lines(path, "History" if b"History" in document else "history", keys))


def test_lines_are_given_before_the_rest_is_read_and_memory_stays_flat(tmp_path: pathlib.Path, keys: Keys) -> None:
    def peak(megabytes: int) -> int:
        block = b"x" * 1023 + b"\n"
        tracemalloc.reset_peak()
        with write_encrypted(tmp_path / "rows", "history", keys) as writer:
            for _ in range(1024 * megabytes):
                writer.write(block)
        assert sum(1 for _ in read_lines(tmp_path / "rows", "history", keys)) == 1024 * megabytes
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        assert peak(8) < peak(1) + 200_000
    finally:
        tracemalloc.stop()
    with (tmp_path / "rows").open("r+b") as handle:
        handle.truncate(1_000_000)
    lines = read_lines(tmp_path / "rows", "history", keys)
    assert next(lines) == "x" * 1023
    with pytest.raises(DataError, match="cut off"):
        list(lines)


def test_a_set_is_encrypted_again_with_a_new_key_and_copies_of_the_old_files_end(
    tmp_path: pathlib.Path, keys: Keys
) -> None:
    path = tmp_path / "rows"
    write_lines(path, ["a row"], "rotated", keys)
    old = path.read_bytes()
    assert not reencrypt(path, keys)
    keys.rotate_data_key("rotated")
    assert list(read_lines(path, "rotated", keys)) == ["a row"]
    assert reencrypt(path, keys) and read_header(path).key_version == 2
    keys.drop_old_versions("rotated")
    assert list(read_chunks(path, "rotated", keys)) == [b"a row\n"]
    path.write_bytes(old)
    with pytest.raises(OverseerError, match="no version 1"):
        list(read_lines(path, "rotated", keys))


@pytest.mark.parametrize(
    "content", [b"", b"OVSENC01", b"plain text\n" * 9, MAGIC + b"\0\0\0\2{}", MAGIC + b"\xff\xff\xff\xff"]
)
def test_what_is_no_encrypted_file_is_refused(tmp_path: pathlib.Path, keys: Keys, content: bytes) -> None:
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_lines(tmp_path / "rows", "history", keys))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        list(read_lines(tmp_path / "none", "history", keys))


def test_a_place_that_takes_no_file_is_one_line(tmp_path: pathlib.Path, keys: Keys) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_lines(tmp_path / "file/rows", ["a"], "history", keys)


def test_a_row_with_a_line_feed_is_refused(tmp_path: pathlib.Path, keys: Keys) -> None:
    with pytest.raises(DataError, match="one line of JSON"):
        write_lines(tmp_path / "rows", ["a\nb"], "history", keys)
    assert not (tmp_path / "rows").exists()
