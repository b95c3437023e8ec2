"""Which data sets of Kaggle are used: the list that ships, and the check of what a user adds to it.

Takes mappings as they stand in `training_config.py`; gives `Dataset`s. Opens no file and no connection.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from overseer_training.errors import ConfigError

Kind = Literal["commands", "interactions", "logs", "metrics"]
Converter = Literal["pairs", "line_counts", "series"]
USUAL_CONVERTER: dict[Kind, Converter] = {
    "commands": "pairs",
    "interactions": "pairs",
    "logs": "line_counts",
    "metrics": "series",
}
# The slug becomes a path of the cache: two plain names, no dots.
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# No licence is given here: what Kaggle states at download time is recorded, and shown with the counts.
REVIEWED: tuple[dict[str, Any], ...] = (
    {"slug": "cyberprince/linux-terminal-commands-dataset", "kind": "commands"},
    {"slug": "kushagragoyal060705/complex-linux-commands-from-natual-language", "kind": "commands"},
    {"slug": "boltzmannbrain/nab", "kind": "metrics"},
    {"slug": "gauravdhamane/gwa-bitbrains", "kind": "metrics"},
    {"slug": "mgusat/smd-onmiad", "kind": "metrics", "step_seconds": 60},  # its paper: one observation a minute
    {"slug": "vishnu0399/server-logs", "kind": "logs"},
    {"slug": "eliasdabbas/web-server-access-logs", "kind": "logs"},
    {"slug": "omduggineni/loghub-apache-log-data", "kind": "logs"},
    {"slug": "omduggineni/loghub-linux-log-data", "kind": "logs"},
)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set that is asked for.

    Attributes:
        slug: OWNER/NAME, as in the address of its page.
        licence: what Kaggle must state; None accepts and records what it states.
        request_column, command_column: for the converter `pairs`; None finds them by inspection.
        step_seconds: for the converter `series`, between rows of files that have no column of times.
    """

    slug: str
    kind: Kind
    converter: Converter
    licence: str | None = None
    request_column: str | None = None
    command_column: str | None = None
    step_seconds: int | None = None


def read_datasets(entries: Sequence[Mapping[str, Any]] = REVIEWED) -> tuple[Dataset, ...]:
    """The data sets of `entries`.

    Raises:
        ConfigError: with every problem found.
    """
    problems = [problem for entry in entries for problem in _problems(entry)]
    slugs = [entry.get("slug") for entry in entries if isinstance(entry, Mapping)]
    problems += sorted({f"kaggle data set {slug!r} is listed twice" for slug in slugs if slugs.count(slug) > 1})
    if problems:
        raise ConfigError(problems)
    return tuple(Dataset(**{"converter": USUAL_CONVERTER[entry["kind"]], **entry}) for entry in entries)


def _problems(entry: Mapping[str, Any]) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"kaggle data set {entry!r} must be a mapping with 'slug' and 'kind'"]
    slug = entry.get("slug")
    name = f"kaggle data set {slug!r}"
    problems = [
        f"{name}: unknown key {key!r}"
        for key in entry
        if key not in {field.name for field in dataclasses.fields(Dataset)}
    ]
    if not isinstance(slug, str) or not SLUG.fullmatch(slug):
        problems.append(f"{name}: the slug must be OWNER/NAME, as in the address of its page")
    if entry.get("kind") not in get_args(Kind):
        problems.append(f"{name}: 'kind' must be one of {', '.join(get_args(Kind))}")
    if "converter" in entry and entry["converter"] not in get_args(Converter):
        problems.append(f"{name}: 'converter' must be one of {', '.join(get_args(Converter))}")
    for key in ("licence", "request_column", "command_column"):
        if entry.get(key) is not None and not isinstance(entry[key], str):
            problems.append(f"{name}: {key!r} must be a text")
    if (entry.get("request_column") is None) != (entry.get("command_column") is None):
        problems.append(f"{name}: give both 'request_column' and 'command_column', or neither")
    step = entry.get("step_seconds")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 1):
        problems.append(f"{name}: 'step_seconds' must be a whole number of seconds, at least 1")
    return problems
