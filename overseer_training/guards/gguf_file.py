"""Checks a GGUF file before anything opens it: counts, lengths and offsets are bounded by the file, scales and values are finite.

Takes a path; gives problems, one line each, none for a sound file, and the chat templates in it.

Source: the GGUF specification, versions 2 and 3, little endian. Block sizes are those of the gguf package. Not covered: values within
quantized blocks, which are always finite, and the scales of types that are not in SCALES.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import mmap
import pathlib
import struct
from collections.abc import Iterator

from overseer_training.guards.safetensors_file import NOT_FINITE, find_not_finite

VERSIONS = (2, 3)
MOST_ENTRIES, MOST_TENSORS = 10_000, 100_000  # chosen; real files have some tens, and some thousands
MOST_ITEMS = 16_000_000  # of an array; the largest vocabularies have 262,144
LONGEST_STRING_BYTES, LONGEST_KEY_BYTES, LONGEST_NAME_BYTES = 16 * 1024 * 1024, 65_535, 256
MOST_DIMENSIONS = 4
STRING, ARRAY = 8, 9
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TEMPLATE = "tokenizer.chat_template"
ALIGNMENT = "general.alignment"
PLAIN = {"F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F64"}
# Type of block -> (offset in the block, how many) of its 16-bit scales.
SCALES = {
    "Q4_0": (0, 1), "Q4_1": (0, 2), "Q5_0": (0, 1), "Q5_1": (0, 2), "Q8_0": (0, 1), "IQ4_NL": (0, 1),
    "Q2_K": (80, 2), "Q3_K": (108, 1), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208, 1),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor as the file describes it; `offset` in bytes from the start of the values."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Malformed(Exception):
    """What the file says cannot be."""


def check_gguf(path: pathlib.Path, with_values: bool = True) -> tuple[list[str], list[str]]:
    """(what is wrong with `path`, the chat templates in it).

    Args:
        with_values: also look at values and scales for infinite ones and for what is not a number.
    """
    with path.open("rb") as handle:
        try:
            reader = _Reader(handle, path.stat().st_size)
            templates, alignment, tensors = _read_description(reader)
            begin = math.ceil(reader.place / alignment) * alignment
            spans = _check_tensors(tensors, begin, alignment, path.stat().st_size)
        except _Malformed as error:
            return [str(error)], []
    return (list(_find_not_finite(path, spans)) if with_values else []), templates


class _Reader:
    """Reads values and never past the end of the file."""

    def __init__(self, handle: io.BufferedReader, size: int) -> None:
        self._handle = handle
        self.size = size
        self.place = 0

    def take(self, count: int) -> bytes:
        if count > self.size - self.place:
            raise _Malformed(f"its description goes on behind the end of the file, at byte {self.place}")
        self.place += count
        return self._handle.read(count)

    def skip(self, count: int) -> None:
        if count > self.size - self.place:
            raise _Malformed(f"its description goes on behind the end of the file, at byte {self.place}")
        self.place += count
        self._handle.seek(self.place)

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0])

    def string(self, longest: int = LONGEST_STRING_BYTES) -> bytes:
        length = self.number("Q")
        if length > longest:
            raise _Malformed(f"a text in it would have {length} bytes, more than {longest}")
        return self.take(length)


def _read_description(reader: _Reader) -> tuple[list[str], int, list[Tensor]]:
    if reader.size < 24 or reader.take(4) != b"GGUF":
        raise _Malformed("it does not begin like a GGUF file")
    version = reader.number("I")
    if version not in VERSIONS:
        raise _Malformed(f"it has GGUF version {version}; 2 and 3 are read, so convert it again with a newer tool")
    tensor_count, entry_count = reader.number("Q"), reader.number("Q")
    if tensor_count > MOST_TENSORS or entry_count > MOST_ENTRIES:
        raise _Malformed(f"it would have {tensor_count} tensors and {entry_count} entries, too many to be true")
    templates, alignment, keys = [], 32, set()
    for _ in range(entry_count):
        key = reader.string(LONGEST_KEY_BYTES).decode("utf-8", "replace")
        if key in keys:
            raise _Malformed(f"the entry {_short(key)} is there twice")
        keys.add(key)
        kind = reader.number("I")
        value = _read_value(reader, kind)
        if key == ALIGNMENT:
            alignment = value if isinstance(value, int) else 0
            if alignment not in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
                raise _Malformed("its alignment is no power of two from 8 to 4096")
        if key.startswith(TEMPLATE) and isinstance(value, bytes):
            templates.append(value.decode("utf-8", "replace"))
    return templates, alignment, [_read_tensor(reader) for _ in range(tensor_count)]


def _read_value(reader: _Reader, kind: int) -> int | bytes | None:
    """The value of a text or of an alignment's type; others are only stepped over."""
    if kind == STRING:
        return reader.string()
    if kind == 4:
        return reader.number("I")
    if kind in SCALAR_BYTES:
        reader.skip(SCALAR_BYTES[kind])
        return None
    if kind != ARRAY:
        raise _Malformed(f"an entry has the unknown type {kind}")
    item, count = reader.number("I"), reader.number("Q")
    if count > MOST_ITEMS or (item != STRING and item not in SCALAR_BYTES):
        raise _Malformed(f"an array would have {count} items of type {item}, which no model has")
    if item == STRING:
        for _ in range(count):
            reader.string()
    else:
        reader.skip(count * SCALAR_BYTES[item])
    return None


def _read_tensor(reader: _Reader) -> Tensor:
    name = reader.string(LONGEST_NAME_BYTES).decode("utf-8", "replace")
    dimensions = reader.number("I")
    if dimensions > MOST_DIMENSIONS:
        raise _Malformed(f"{_short(name)} would have {dimensions} dimensions, more than {MOST_DIMENSIONS}")
    shape = tuple(reader.number("Q") for _ in range(dimensions))
    return Tensor(name, shape, reader.number("I"), reader.number("Q"))


def _check_tensors(tensors: list[Tensor], begin: int, alignment: int, size: int) -> list[tuple[Tensor, str, int, int]]:
    """(tensor, type, first byte, last byte + 1) of each, in the order of the file."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    names, spans = set(), []
    for tensor in tensors:
        try:
            kind = GGMLQuantizationType(tensor.kind)
        except ValueError:
            raise _Malformed(f"{_short(tensor.name)} has the unknown type {tensor.kind}") from None
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if (tensor.shape[0] if tensor.shape else 1) % block:
            raise _Malformed(f"{_short(tensor.name)} has rows that are no whole blocks of {kind.name}")
        first = begin + tensor.offset
        last = first + math.prod(tensor.shape) // block * block_bytes
        if tensor.offset % alignment or last > size:
            raise _Malformed(f"{_short(tensor.name)} lies outside the file, or between two places of its alignment")
        if tensor.name in names:
            raise _Malformed(f"{_short(tensor.name)} is there twice")
        names.add(tensor.name)
        spans.append((tensor, kind.name, first, last))
    spans.sort(key=lambda span: span[2:])
    for one, other in itertools.pairwise(spans):
        if one[3] > other[2]:
            raise _Malformed(f"{_short(other[0].name)} overlaps {_short(one[0].name)}")
    return spans


def _find_not_finite(path: pathlib.Path, spans: list[tuple[Tensor, str, int, int]]) -> Iterator[str]:
    for tensor, kind, first, last in spans:
        if kind in PLAIN:
            found = find_not_finite(path, kind, first, last)
        else:
            found = kind in SCALES and _has_bad_scale(path, kind, first, last)
        if found:
            yield f"{_short(tensor.name)} has values or scales that are infinite or not a number"


def _has_bad_scale(path: pathlib.Path, kind: str, first: int, last: int) -> bool:
    import numpy
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    if first == last:
        return False
    block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1]
    offset, count = SCALES[kind]
    unsigned, bits = NOT_FINITE["F16"]
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        values = numpy.frombuffer(mapped, dtype="u1", count=last - first, offset=first)
        scales = values.reshape(-1, block_bytes)[:, offset : offset + 2 * count].copy().view(unsigned)
        del values
        return bool(((scales & bits) == bits).any())


def _short(name: str) -> str:
    return ascii(name)[:80]
