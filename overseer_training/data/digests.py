"""What was seen, remembered as 64-bit digests in a flat table: for more texts than fit into a set.

Takes texts; gives digests, and tables of them. Two texts among n share a digest with a probability of about n² / 2^65.
"""

from __future__ import annotations

import hashlib
import mmap

SEPARATOR = "\x1f"  # white space to `str.split`, so that no folded text has it
FIRST_SLOTS = 1 << 12
EMPTY = 0


def digest_of(*texts: str) -> int:
    """64 bits of BLAKE2b of `texts`, never 0; the same in every process."""
    content = SEPARATOR.join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1


class _Table:
    """Open addressing with linear probing (Knuth, "The Art of Computer Programming", volume 3, 6.4); at most two thirds of the slots are full."""

    _width: int  # numbers of a slot: the digest, and what belongs to it

    def __init__(self) -> None:
        self._slots = _zeros(FIRST_SLOTS * self._width)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: int) -> bool:
        return self._slots[self._place(digest)] == digest

    def _place(self, digest: int) -> int:
        """Where `digest` is, or the empty slot that it would take."""
        slots, width = self._slots, self._width
        last = len(slots) - width
        place = digest * width & last
        while slots[place] != EMPTY and slots[place] != digest:
            place = place + width & last
        return place

    def _put(self, place: int, digest: int) -> None:
        self._slots[place] = digest
        self._count += 1

    def _grow_if_full(self) -> None:
        if 3 * self._count * self._width < 2 * len(self._slots):
            return
        full, width = self._slots, self._width
        self._slots = _zeros(2 * len(full))
        for old in range(0, len(full), width):
            if full[old] != EMPTY:
                place = self._place(full[old])
                self._slots[place : place + width] = full[old : old + width]


class DigestMap(_Table):
    """A number for each digest, in 16 bytes a slot."""

    _width = 2

    def setdefault(self, digest: int, value: int) -> int:
        """The number of `digest`, which is `value` if it had none."""
        place = self._place(digest)
        if self._slots[place] == digest:
            return self._slots[place + 1]
        self._put(place, digest)
        self._slots[place + 1] = value
        self._grow_if_full()
        return value


class DigestSet(_Table):
    """Digests alone, in 8 bytes a slot."""

    _width = 1

    def add(self, digest: int) -> bool:
        """Whether `digest` is new."""
        place = self._place(digest)
        if self._slots[place] == digest:
            return False
        self._put(place, digest)
        self._grow_if_full()
        return True


def _zeros(count: int) -> memoryview:
    """Numbers in memory of their own, which goes back to the system whatever the allocator keeps (see `training/allocator.py`)."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("Q")
