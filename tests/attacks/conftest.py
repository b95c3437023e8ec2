"""The zygote of all attacks, and undisturbed runs to compare with."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .victim import Zygote, losses_of, state_of


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


class Reference:
    """A run that nobody disturbed, with every checkpoint that it published."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def has(self, checkpoint: pathlib.Path) -> bool:
        """Whether `checkpoint` is the same to the byte as the one of the same step."""
        return state_of(checkpoint) == state_of(self.folder / "checkpoints" / checkpoint.name)

    @property
    def losses(self) -> list[tuple[int, float, float]]:
        return losses_of(self.folder)


@pytest.fixture(scope="session")
def undisturbed(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Reference]:
    """The undisturbed run of some options, made once."""
    made: dict[str, Reference] = {}

    def run(*, every_step: bool = False, **options: Any) -> Reference:
        if every_step:  # has a checkpoint
            options["flags"] = {**options["flags"], "save-steps": 1}
        key = repr(sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            victim = zygote.start(folder, keep_all=True, **options)
            assert victim.wait() == 0, victim.output
            made[key] = Reference(folder)
        return made[key]

    return run
