"""Memory that was freed goes back to the system when it is worth the second that it costs."""

from __future__ import annotations

import pytest

from overseer_training.config.machine import GIB
from overseer_training.training import memory_guard
from overseer_training.training.memory_guard import MemoryGuard, MemoryReading


def test_freed_memory_goes_back_where_it_is_much_or_short(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, given, now = MemoryGuard(0.8, 0.0, "cpu"), [], [0.3, 2.0]
    monkeypatch.setattr(guard, "read", lambda: MemoryReading(now[0], int(now[1] * GIB), None, None))
    monkeypatch.setattr(memory_guard, "give_back_freed_memory", lambda: given.append(tuple(now)))
    for now[:] in ([0.3, 2.0], [0.3, 2.9], [0.3, 3.1], [0.75, 2.2], [0.3, 4.0], [0.3, 4.2]):
        guard.give_back_what_adds_up()
    assert given == [(0.3, 3.1), (0.75, 2.2)]  # what stays after it was given back is the new usual
