"""What the first process hands to the others arrives as it was, in parts, and on disk where it was on disk."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

from overseer_training.data.tokenize import TokenSet
from overseer_training.training import follower

from .conftest import make_tokens


class Wire:
    """Stands in for a `World`: what one process shares, another gets in the same order."""

    def __init__(self) -> None:
        self.sent: collections.deque[Any] = collections.deque()
        self.largest = 0

    def share(self, value: Any) -> Any:
        if value is None:
            return self.sent.popleft()
        self.sent.append(value)
        self.largest = max(self.largest, getattr(value, "nbytes", 0))
        return value


@pytest.mark.parametrize("is_mapped", [False, True])
def test_tokens_arrive_whole_and_in_parts(is_mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "PART", 16)
    made, wire = make_tokens(20), Wire()
    tokens = TokenSet(made.ids, made.labels, made.starts, 3, made.digest, is_mapped)
    assert follower.share_tokens(wire, tokens).ids is tokens.ids  # type: ignore[arg-type]
    assert wire.largest == 16 * 8 < tokens.ids.nbytes
    received = follower.share_tokens(wire)  # type: ignore[arg-type]
    assert not wire.sent
    for name in ("ids", "labels", "starts"):
        assert np.array_equal(getattr(received, name), getattr(tokens, name)), name
        assert getattr(received, name).dtype == getattr(tokens, name).dtype
    assert (received.too_long, received.digest, received.is_mapped) == (3, tokens.digest, is_mapped)
    assert isinstance(received.ids.base, np.memmap) is is_mapped
