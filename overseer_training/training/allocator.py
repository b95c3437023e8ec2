"""Memory of a CPU's tensors: kept by the process when freed, and in large pages.

Every step allocates and frees the same gigabytes. The C library gives large blocks back to the system at once, which fills each page
with zeros again when it is next used: a sixth of the time of a step (measured, two cores). Call `keep_freed_memory` before torch is
imported. Only glibc is asked; elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_KEPT_BYTES = 1 << 30  # larger blocks come from the system and go back to it


def keep_freed_memory() -> bool:
    """Whether the C library agreed to keep freed blocks; large pages are asked for in any case, by torch's variable."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)) and bool(
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    )


def give_back_freed_memory() -> None:
    """Return unused pages to the system: blocks of ever other sizes leave holes that would add up over many steps."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None
