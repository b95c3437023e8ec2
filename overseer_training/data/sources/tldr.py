"""The cache of a tldr client on this machine: short examples for thousands of programs (CC-BY-4.0).

Takes the folder with `pages*/{common,linux,osx}/*.md`; gives `Example`s. A page says what a command does and leaves its values open
(`{{path/to/file}}`); a row needs values that the request names too: the last parts of the placeholders are written into the command and,
where the description does not hold them, behind it.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator

from overseer_training.records import Example, Platform, Turn

ENTRY = re.compile(r"^- (?P<text>.+?):?\n+`(?P<command>[^`\n]+)`", re.MULTILINE)
PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}(?!\})")
CHOICE = re.compile(r"\[(-[^|\]]*)\|(--?[^\]]*)\]")  # [-r|--recursive]: the short form
OPTIONAL = re.compile(r"\[[^\]]*\]")  # source.tar[.gz|.bz2]
MARK = re.compile(r"\[(\w+)\]")  # [c]reate: a hint at a letter
PLATFORMS: dict[str, Platform] = {"common": "linux", "linux": "linux", "osx": "macos"}
MOST_VALUES = 4


def find_cache() -> pathlib.Path | None:
    """Where a tldr client of this user keeps its pages, or None."""
    home = pathlib.Path.home()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    places = (
        cache / "tldr",
        cache / "tealdeer" / "tldr-pages",
        home / ".tldr",
        home / ".tldrc" / "tldr",
        home / ".local/share/tldr",
    )
    return next((place for place in places if any(_page_folders(place))), None)


def read_pages(folder: pathlib.Path) -> Iterator[Example]:
    """The rows of all English pages below `folder`, sorted by path."""
    for pages in _page_folders(folder):
        for name, platform in PLATFORMS.items():
            for path in sorted((pages / name).glob("*.md")):
                yield from _read_page(path.read_text("utf-8", "replace"), path.stem, platform)


def _page_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in (folder / "pages", folder / "pages.en", folder / "tldr" / "pages") if path.is_dir()]


def _read_page(text: str, name: str, platform: Platform) -> Iterator[Example]:
    for number, entry in enumerate(ENTRY.finditer(text)):
        command, values = _fill(entry["command"])
        request = MARK.sub(r"\1", entry["text"]).replace("`", "").strip()
        unsaid = [value for value in values if value.lower() not in request.lower()]
        if len(values) > MOST_VALUES or not request or "{{" in command:
            continue
        request = f"{request}: {' '.join(unsaid)}" if unsaid else request
        turns = (Turn("user", request[0].lower() + request[1:]), Turn("assistant", command))
        yield Example(f"tldr/{platform}/{name}/{number}", f"tldr/{name}", "command", turns, platform, "tldr")


def _fill(template: str) -> tuple[str, list[str]]:
    """The command with a value in each placeholder, and those values."""
    values: list[str] = []

    def replace(match: re.Match[str]) -> str:
        inner = OPTIONAL.sub("", CHOICE.sub(r"\1", match.group(1)))
        if inner.startswith("-"):
            return inner.split("|")[0]
        words = [part.removeprefix("path/to/") for part in inner.replace("...", "").split("|")[0].split()]
        values.extend(word for word in words if word not in values)
        return " ".join(words)

    return " ".join(PLACEHOLDER.sub(replace, template).split()), values
