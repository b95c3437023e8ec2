"""Imports go down the list of rooms only, and what answers `--help` and `--plan` loads nothing heavy."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "overseer_training"
# A module may import what stands before its own room; see docs/architecture.md.
GROUND = ("errors", "records", "prompts", "files", "intervals", "llama_cpp")
ROOMS = (
    "config",
    "guards",
    "teachers",
    "telemetry",
    "data",
    "models",
    "training",
    "evaluation",
    "learning",
    "export",
    "serving",
    "reporting",
)
ROOF = (
    *("run_folder", "planning", "custody", "teaching", "gathering", "self_improvement", "measuring", "release", "pipeline"),
    *("commands", "cli"),
)
LEVELS = {
    **dict.fromkeys(GROUND, 0),
    **{room: level for level, room in enumerate((*ROOMS, *ROOF), start=1)},
    "prediction_file": len(ROOMS) + 1,
}
LIGHT = (
    "config",
    "cli.py",
    "pipeline.py",
    "planning.py",
    "run_folder.py",
    "models/catalog.py",
    "models/choose.py",
    "training/checkpoint_paths.py",
    "training/allocator.py",
    "training/distributed.py",
)
HEAVY = {"torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "gguf", "xllamacpp"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def imported_names(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """(absolute module, line) of each import in `tree`, those inside functions too.

    What stands below `if __name__ == "__main__"` is a command, and not part of its room.
    """
    programs = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "'__main__'" in ast.dump(node.test)]
    left_out = {inner for program in programs for inner in ast.walk(program)}
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module or ""
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def room_of(module: str) -> str | None:
    """`config` of `overseer_training.config.load.x`; None outside the package."""
    parts = module.split(".")
    return parts[1] if parts[0] == "overseer_training" and len(parts) > 1 else None


def upward_imports(path: pathlib.Path, tree: ast.AST) -> list[str]:
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    package = ".".join(("overseer_training", *relative.parts[:-1]))
    wrong = []
    for module, line in imported_names(tree, package):
        room = room_of(module)
        if room is None or room == own or own == "__init__":
            continue
        allowed = LEVELS[room] < LEVELS[own] or (LEVELS[room] == 0 and LEVELS[own] == 0) or own == "cli"
        if not allowed:
            wrong.append(f"{relative}:{line} imports {module}")
    return wrong


def import_time_names(tree: ast.Module) -> set[str]:
    """Top packages imported when the module is loaded: everything outside functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name.split(".")[0] for name, _ in imported_names(node, "overseer_training")}
        waiting += ast.iter_child_nodes(node)
    return found


def test_the_levels_name_every_room_and_module() -> None:
    present = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert present - {"__init__", "__pycache__"} <= set(LEVELS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: pathlib.Path) -> None:
    assert upward_imports(path, ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("config/load.py", "from overseer_training.data.build import build_rows"),
        ("data/build.py", "import overseer_training.models.load"),
        ("data/sources/corpus.py", "from overseer_training import pipeline"),
        ("errors.py", "from overseer_training.config import plan"),
        ("training/engine.py", "def f():\n    from overseer_training.evaluation.runner import Evaluator"),
        ("models/load.py", "from ..training import engine"),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, line: str) -> None:
    assert len(upward_imports(PACKAGE / module, ast.parse(line))) == 1


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if str(path.relative_to(PACKAGE)).startswith(LIGHT)],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_what_answers_help_and_plan_loads_nothing_heavy(path: pathlib.Path) -> None:
    assert import_time_names(ast.parse(path.read_text())) & HEAVY == set()


def test_a_heavy_import_is_found_outside_functions_only() -> None:
    assert import_time_names(ast.parse("try:\n    import torch.nn\nexcept ImportError:\n    pass")) == {"torch"}
    assert import_time_names(ast.parse("class A:\n    from numpy import array")) == {"numpy"}
    assert import_time_names(ast.parse("def f():\n    import torch")) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_does(path: pathlib.Path) -> None:
    documentation = ast.get_docstring(ast.parse(path.read_text()))
    assert documentation and len(documentation.splitlines()[0]) > 20


@pytest.mark.parametrize("room", [room for room in ROOMS if list((PACKAGE / room).glob("*.py"))])
def test_every_room_has_a_readme(room: str) -> None:
    assert (PACKAGE / room / "README.md").is_file()
