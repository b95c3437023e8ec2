"""What was seen is known again, however much it is."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from overseer_training.data.digests import DigestMap, DigestSet, digest_of

NUMBERS = st.integers(1, 2**64 - 1)


@given(st.lists(st.tuples(st.one_of(NUMBERS, st.integers(1, 9)), NUMBERS)))
def test_a_map_answers_as_a_dictionary_does(pairs: list[tuple[int, int]]) -> None:
    table, known = DigestMap(), dict[int, int]()
    for key, value in pairs:
        assert (key in table) is (key in known)
        assert table.setdefault(key, value) == known.setdefault(key, value)
    assert len(table) == len(known)


def test_tables_grow_and_forget_nothing() -> None:
    digests = [digest_of(str(number)) for number in range(20_000)]
    table, seen = DigestMap(), DigestSet()
    for number, digest in enumerate(digests):
        assert table.setdefault(digest, number + 1) == number + 1 and seen.add(digest)
    assert len(table) == len(seen) == len(digests)
    assert all(table.setdefault(digest, 0) == number + 1 for number, digest in enumerate(digests))
    assert not any(seen.add(digest) for digest in digests)
    assert not any(digest_of(f"x{number}") in seen for number in range(20_000))


def test_a_digest_tells_where_texts_end_and_is_the_same_in_every_process() -> None:
    assert digest_of("a", "bc") != digest_of("ab", "c")
    assert digest_of("half \ud83d")  # a lone surrogate, as JSON may have it
    program = "from overseer_training.data.digests import digest_of; print(digest_of('linux', 'list ü'))"
    assert int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) == digest_of(
        "linux", "list ü"
    )
