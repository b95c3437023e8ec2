"""Families and plans for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import Machine
from overseer_training.config.plan import Plan
from overseer_training.config.resolve import resolve
from overseer_training.data.sources.corpus import Family

MACHINE = Machine("Linux", "plain", 2, 2**34, frozenset(), has_mps=False, has_cuda=False)
STARTS = ("list", "show me", "which are", "I need", "give me", "print")


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    def make(*flags: str) -> Plan:
        return resolve(build_parser().parse_args(flags), load_configuration(), MACHINE, for_run=True)

    return make


@pytest.fixture
def family_of() -> Callable[..., Family]:
    """A family that is valid but for what is given."""

    def make(name: str = "find-files-by-extension", **changes: Any) -> Family:
        values: dict[str, Any] = {
            "utility": "find",
            "fixture": "media",
            "command": "find {dir} -name '*.{ext}'",
            "wordings": tuple(f"{start} the {{ext}} things in {{dir}}, please" for start in STARTS),
            "explain": "Walks {dir} and prints what ends in .{ext}.",
            "slots": ({"dir": "videos", "ext": "mp4"}, {"dir": "photos/summer", "ext": "jpg"}),
        }
        return Family(name=name, **{**values, **changes})

    return make
