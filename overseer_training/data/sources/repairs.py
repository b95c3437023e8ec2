"""Error recovery: a command that failed, what the shell said, and the repaired command.

Takes `corpus/repairs.jsonl`, which `overseer data repairs` makes from the families (`evaluation/mistakes.py`); gives `Repair`s and
their `Example`s. A repair is in the split of its family.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

from overseer_training.data.sources.corpus import CORPUS
from overseer_training.errors import DataError
from overseer_training.prompts import REPAIR_REQUEST
from overseer_training.records import Example, Turn


@dataclasses.dataclass(frozen=True)
class Repair:
    """One failure and its repair.

    Attributes:
        mistake: what was done wrong; see `evaluation/mistakes.py`.
        stderr: the first lines of the error message.
        command: the right command; `also` are other right ones.
    """

    family: str
    mistake: str
    fixture: str
    failed: str
    exit_code: int
    stderr: str
    command: str
    also: tuple[str, ...] = ()

    def as_line(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False) + "\n"


def load_repairs(path: pathlib.Path = CORPUS / "repairs.jsonl") -> list[Repair]:
    """All repairs.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        documents = [json.loads(line) for line in path.read_text().split("\n") if line]
        return [Repair(**{**document, "also": tuple(document["also"])}) for document in documents]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} holds no readable repairs: {error}; make it with: overseer data repairs") from error


def render_repair(repair: Repair, number: int) -> Example:
    """The row of `repair`; `number` tells repairs of one family apart."""
    request = REPAIR_REQUEST.format(command=repair.failed, stderr=repair.stderr, exit_code=repair.exit_code)
    turns = (Turn("user", request), Turn("assistant", repair.command))
    return Example(f"repair/{repair.family}/{number}", repair.family, "repair", turns, "linux", "corpus")
