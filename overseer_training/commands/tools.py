"""The command that recommends tools: candidates from this machine's package lists, chosen and ordered by a trained model.

Where the model's own run measured that it chooses worse than the search, the search's order stands.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from overseer_training.commands.model import add_model
from overseer_training.errors import UsageError


def add(commands: Any) -> None:
    """Add the parser of this topic."""
    tools = commands.add_parser("tools", help="which tool serves a need, and how to install it", allow_abbrev=False)
    tools.add_argument("need", nargs="+", help="what you need a tool for, in your words")
    add_model(tools)
    tools.set_defaults(run=_tools)


def _tools(flags: argparse.Namespace) -> int:
    from overseer_training.config.machine import find_machine
    from overseer_training.data.tools.catalogue import open_catalogue, this_host
    from overseer_training.data.tools.choice import checked, describe, request
    from overseer_training.models.catalog import cache_folder
    from overseer_training.prompts import with_system
    from overseer_training.records import Platform, Turn

    platform: Platform = "macos" if find_machine().system == "macOS" else "linux"
    need = " ".join(flags.need)
    catalogue, host = open_catalogue(cache_folder() / "tools.sqlite3"), this_host(platform)
    found = catalogue.search(need, host)
    if not found:
        raise UsageError("no tool matches; describe the need in other words")
    worse = worse_than_search(flags.model)
    if worse:
        print(worse, file=sys.stderr)
        text = ""  # the best matches stand
    else:
        from overseer_training.models.generate import generate
        from overseer_training.models.load import load_trained

        text = generate(load_trained(flags.model), [with_system([Turn("user", request(need, found))], platform)])[0]
    print(describe(checked(text, found, catalogue, host)))
    return 0


def worse_than_search(model: pathlib.Path) -> str:
    """A line for people, where the run of `model` measured that it chooses worse than the search that offers it candidates; else empty."""
    for folder in (model, model.parent):
        try:
            score = json.loads((folder / "eval.json").read_text())["trained"]["tool_hit_at_1"]
            own, search = float(score["value"]), float(score["baseline"]["bm25_installed_first"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if own < search:
            return f"note: by the search alone, which is right more often than this model: {search:.0%} against {own:.0%}, n = {score['n']}"
        return ""
    return ""
