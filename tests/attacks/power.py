"""What a power loss may leave of a folder: only what was flushed to disk is sure to be there.

`Disk` watches a folder while a program works in it. Whenever a name changes or something is flushed it notes a moment: the tree
as the program sees it, and what of it is on disk: the content of files when they were last flushed, and the names in folders when
those were. `Disk.losses` gives the trees that a power loss at each moment may leave: everything that was not flushed is gone;
or all names are there and what was not flushed is empty; or anything in between.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
import stat
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHANGING = ("mkdir", "rename", "replace", "link", "unlink", "rmdir")
Names = dict[str, int]
Tree = dict[str, bytes | None]  # path -> content; None for a folder


@dataclasses.dataclass(frozen=True)
class Moment:
    """Numbers stand for files and folders, whatever they are called.

    Attributes:
        names, disk_names: folder -> its names, now and on disk.
        contents, disk_contents: file -> its content, now and on disk.
        note: what `Disk.note` was at that moment.
    """

    names: dict[int, Names]
    disk_names: dict[int, Names]
    contents: dict[int, bytes]
    disk_contents: dict[int, bytes]
    note: Any


class Disk:
    """Watches everything below `root`, which is on disk with all that is in it when the watch begins."""

    def __init__(self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.note = root, None
        self.moments: list[Moment] = []
        self._numbers: dict[int, int] = {}  # inode -> number; inodes are used again, numbers are not
        self._next = 0
        self._names, self._contents = self._scan()
        self._disk_names, self._disk_contents = dict(self._names), dict(self._contents)
        for name in CHANGING:
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))
        fsync = os.fsync

        def flush(descriptor: int) -> None:
            self._look()
            fsync(descriptor)
            self._flushed(descriptor)
            self._look()

        monkeypatch.setattr(os, "fsync", flush)

    def losses(self, rng: random.Random, mixtures: int) -> Iterator[tuple[Tree, Any]]:
        """(tree, note) of power losses at every moment: two extremes, and `mixtures` in between; each tree of a note once."""
        seen: set[Any] = set()
        for moment in self.moments:
            trees = [_tree(moment, lambda: 0), _tree(moment, lambda: 1)]
            trees += [_tree(moment, lambda: rng.choice((0, 1, 2, 3))) for _ in range(mixtures)]
            for tree in trees:
                key = (frozenset(tree.items()), repr(moment.note))
                if key not in seen:
                    seen.add(key)
                    yield tree, moment.note

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*arguments: Any, **options: Any) -> Any:
            self._look()
            try:
                return call(*arguments, **options)
            finally:
                self._look()

        return watching

    def _look(self) -> None:
        self._names, self._contents = self._scan()
        self.moments.append(
            Moment(self._names, dict(self._disk_names), self._contents, dict(self._disk_contents), self.note)
        )

    def _flushed(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        number = self._numbers.get(status.st_ino)
        if number is None:
            return
        if stat.S_ISDIR(status.st_mode):
            self._disk_names[number] = self._names[number]
        else:
            self._disk_contents[number] = os.pread(descriptor, status.st_size, 0)

    def _scan(self) -> tuple[dict[int, Names], dict[int, bytes]]:
        names: dict[int, Names] = {}
        contents: dict[int, bytes] = {}
        inodes: dict[int, int] = {}

        def number_of(inode: int) -> int:
            if inode not in inodes:
                if inode not in self._numbers:
                    self._numbers[inode] = self._next
                    self._next += 1
                inodes[inode] = self._numbers[inode]
            return inodes[inode]

        def visit(folder: pathlib.Path, number: int) -> None:
            names[number] = {}
            for entry in os.scandir(folder):
                own = names[number][entry.name] = number_of(entry.inode())
                if entry.is_dir(follow_symlinks=False):
                    visit(pathlib.Path(entry.path), own)
                else:
                    contents[own] = pathlib.Path(entry.path).read_bytes()

        visit(self.root, number_of(self.root.stat().st_ino))
        self._numbers = inodes
        return names, contents


def _tree(moment: Moment, choose: Callable[[], int]) -> Tree:
    """0 takes what is on disk; 1 takes the names, but nothing of a file that was not flushed; 2 and 3 half of it, or all."""
    tree: Tree = {}

    def visit(number: int, path: str) -> None:
        on_disk, now = moment.disk_names.get(number, {}), moment.names.get(number)
        for name, own in (on_disk if now is None or choose() == 0 else now).items():
            where = f"{path}{name}"
            if own in moment.names or own in moment.disk_names:
                tree[where] = None
                visit(own, f"{where}/")
                continue
            choice, flushed, written = choose(), moment.disk_contents.get(own, b""), moment.contents.get(own, b"")
            tree[where] = flushed or {2: written[: len(written) // 2], 3: written}.get(choice, b"")

    visit(0, "")
    return tree


def restore(tree: Tree, target: pathlib.Path) -> None:
    """Make `tree` at `target`."""
    target.mkdir()
    for path, content in tree.items():
        if content is None:
            (target / path).mkdir()
        else:
            (target / path).write_bytes(content)
