"""Checks a safetensors file before anything opens it: its header, its offsets, and whether its values are finite.

Takes a path; gives problems, one line each, none for a sound file. Reads the header and, in pieces, the values; builds no tensor.

Source: the safetensors format: header length (8 bytes, little endian), header (JSON), values without gaps.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

LARGEST_HEADER_BYTES = 100_000_000  # the format's own limit
MOST_TENSORS = 100_000  # chosen; the largest open models have some ten thousand
MOST_DIMENSIONS = 8
PIECE_BYTES = 1 << 24
# dtype -> bytes of a value
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
# dtype -> (unsigned type, bits): a value is infinite or not a number where all these bits are set. Formats of IEEE 754 and bfloat16 set
# the whole exponent; F8_E4M3 has no infinity, and one pattern that is not a number.
NOT_FINITE = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("<u1", 0x7C),
    "F8_E4M3": ("<u1", 0x7F),
}


def check_safetensors(path: pathlib.Path, with_values: bool = True) -> list[str]:
    """What is wrong with `path`.

    Args:
        with_values: also look at every value for infinite ones and for what is not a number.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or not 2 <= length <= min(LARGEST_HEADER_BYTES, size - 8):
            return [f"its header would have {length} bytes, which the file of {size} bytes cannot have"]
        try:
            header = json.loads(handle.read(length), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            return [f"its header cannot be read ({str(error)[:100]})"]
    if not isinstance(header, dict):
        return ["its header is no table of tensors"]
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        return ["its metadata is not made of texts"]
    if len(header) > MOST_TENSORS:
        return [f"its header has {len(header)} tensors, more than {MOST_TENSORS}"]
    begin = 8 + length
    problems = list(_check_tensors(header, size - begin))
    return problems or (list(_find_not_finite(path, header, begin)) if with_values else [])


def find_not_finite(path: pathlib.Path, dtype: str, begin: int, end: int) -> bool:
    """Whether the values of `dtype` in the bytes `begin` to `end` of `path` have an infinite one or one that is not a number."""
    import numpy

    unsigned, bits = NOT_FINITE[dtype]
    with path.open("rb") as handle:
        handle.seek(begin)
        while begin < end:
            values = numpy.frombuffer(handle.read(min(PIECE_BYTES, end - begin)), dtype=unsigned)
            mask = values.dtype.type(bits)
            if bool(((values & mask) == mask).any()):
                return True
            begin += PIECE_BYTES
    return False


def _check_tensors(header: dict[str, Any], values_bytes: int) -> Iterator[str]:
    spans = []
    for name, tensor in header.items():
        try:
            dtype, shape, (begin, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
            fits = (
                isinstance(dtype, str)
                and len(shape) <= MOST_DIMENSIONS
                and all(type(n) is int and n >= 0 for n in (*shape, begin, end))
            )
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits or set(tensor) != {"dtype", "shape", "data_offsets"}:
            yield f"{_short(name)} is not described by type, shape and offsets"
        elif dtype not in SIZES:
            yield f"{_short(name)} has the unknown type {_short(dtype)}"
        elif not begin <= end <= values_bytes:
            yield f"{_short(name)} lies outside the file"
        elif math.prod(shape) * SIZES[dtype] != end - begin:
            yield f"{_short(name)} has {end - begin} bytes, which its shape and type do not"
        else:
            spans.append((begin, end, name))
    place = 0
    if len(spans) == len(header):
        for begin, end, name in sorted(spans):
            if begin != place:
                yield f"{_short(name)} {'overlaps another tensor' if begin < place else 'leaves a gap before it'}"
                return
            place = end
        if place != values_bytes:
            yield f"{values_bytes - place} bytes at its end belong to no tensor"


def _find_not_finite(path: pathlib.Path, header: dict[str, Any], begin: int) -> Iterator[str]:
    for name, tensor in header.items():
        first, last = tensor["data_offsets"]
        if tensor["dtype"] in NOT_FINITE and find_not_finite(path, tensor["dtype"], begin + first, begin + last):
            yield f"{_short(name)} has values that are infinite or not a number"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _short(name: object) -> str:
    return ascii(name)[:80]
