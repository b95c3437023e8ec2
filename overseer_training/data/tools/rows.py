"""Training rows in which a model chooses among candidates, made from the requests of the curated list.

A request with candidates serves people better than one without. A model of 135M parameters cannot remember what a thousand programs do,
what they are called in a package manager, and which of them a machine has; with candidates it reads all three and has to match a need
with purposes, which it can learn and which works for tools that it never saw. A bare request is what a model meets where no catalogue is
at hand (exported to another program), so the other requests stay bare, as `advice.render_tool` writes them; a row with candidates also
costs three times the tokens.

Candidates are what the catalogue finds when the request is not in it, in its order with what is installed first, as at work: they are
hard, and the first is right as often as it is then, so that a model learns when to trust the search. A right tool that it did not find
stands anywhere. Now and then the right tool is taken out: then a tool that does as well is right, and where there is none the answer
comes from memory.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection, Iterable, Iterator, Sequence

from overseer_training.data.sources.advice import Tool, render_tool
from overseer_training.data.tools.catalogue import CANDIDATES, SYSTEMS, Catalogue, curated_catalogue, other_host
from overseer_training.data.tools.choice import CHOICES, answer, installed_first, request
from overseer_training.records import Example, Platform, Turn

WITH_CANDIDATES = 3  # requests of each tool; chosen
ABSENT_SHARE = 0.1  # of rows: the right tool is taken out of the candidates; chosen
INSTALLED_SHARE = 0.12  # of candidates; chosen: a machine has some hundred of the 925 tools
OTHER_SYSTEM_SHARE = 0.2  # of rows: a machine with other package managers than most; chosen


def tools_on(platforms: Collection[Platform], tools: Iterable[Tool]) -> list[Tool]:
    """The tools that exist on one of `platforms`, for those alone."""
    narrowed = (
        dataclasses.replace(tool, platforms=tuple(name for name in tool.platforms if name in platforms))
        for tool in tools
    )
    return [tool for tool in narrowed if tool.platforms]


def choice_rows(tools: Sequence[Tool], seed: int) -> Iterator[Example]:
    """All rows of `tools`, of every split: each request once, with candidates or bare. The same seed gives the same rows.

    A tool that is held out is no candidate in a training row: as a wrong choice there it would be taught to be one. For the same
    reason a training request that a held-out tool has too is left out.
    """
    rng = random.Random(f"tool choice {seed}")
    taught = [tool for tool in tools if tool.split == "train"]
    held_out = [tool for tool in tools if tool.split != "train"]
    asked = {_fold(need) for tool in held_out for need in tool.requests}
    for chosen, offered in ((taught, taught), (held_out, tools)):
        known = {tool.name: tool for tool in offered}
        for number in range(max((len(tool.requests) for tool in chosen), default=0)):
            # Request `number` of no tool is in this catalogue: one for each number is cheaper than one for each request.
            catalogue = curated_catalogue([_without_request(tool, number) for tool in offered])
            for tool in chosen:
                if number >= len(tool.requests) or (chosen is taught and _fold(tool.requests[number]) in asked):
                    continue
                # The names' lengths spread the rows with candidates evenly over the numbers.
                if (number + len(tool.name)) % len(tool.requests) < WITH_CANDIDATES:
                    yield _choice_row(tool, number, catalogue, known, rng)
                else:
                    yield list(render_tool(tool))[number]
            catalogue.close()


def _choice_row(tool: Tool, number: int, catalogue: Catalogue, known: dict[str, Tool], rng: random.Random) -> Example:
    platform = tool.platforms[number % len(tool.platforms)]
    systems = SYSTEMS[platform]
    host = other_host(platform, managers=rng.choice(systems) if rng.random() < OTHER_SYSTEM_SHARE else systems[0])
    need = tool.requests[number]
    right = catalogue.find(tool.name, host)
    assert right is not None, tool.name  # it is one of those that the catalogue was made of
    offered = catalogue.search(need, host, CANDIDATES)
    if rng.random() < ABSENT_SHARE:
        offered = [candidate for candidate in offered if candidate.name != tool.name]
    elif right not in offered:
        offered = offered[: CANDIDATES - 1]
        offered.insert(rng.randint(0, len(offered)), right)
    # What has no package here is part of a system or not to be had; it is the same on all machines of a platform.
    offered = [
        dataclasses.replace(candidate, is_installed=rng.random() < INSTALLED_SHARE and candidate.manager != "")
        for candidate in offered
    ]
    equals = [candidate for candidate in offered if _do_as_well(tool, known.get(candidate.name))]
    choices = [candidate for candidate in offered if candidate.name == tool.name] + equals
    choices = installed_first(choices or [right])  # the right one leads its equals
    others = [candidate for candidate in offered if candidate.name in tool.alternatives and candidate not in choices]
    turns = (Turn("user", request(need, offered)), Turn("assistant", answer([*choices, *others][:CHOICES])))
    return Example(f"tool/{tool.name}/{number}/candidates", f"tool/{tool.name}", "tools", turns, platform, "corpus")


def _do_as_well(tool: Tool, other: Tool | None) -> bool:
    """Whether two tools serve the same needs: each is named as an alternative of the other."""
    return other is not None and other.name in tool.alternatives and tool.name in other.alternatives


def _without_request(tool: Tool, number: int) -> Tool:
    return dataclasses.replace(tool, requests=tool.requests[:number] + tool.requests[number + 1 :])


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()
