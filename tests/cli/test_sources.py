"""What there is to learn from on a machine, as a person sees it: each source in a line, with what is missing for it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from overseer_training.data.sources.help_rows import Row, write_rows

ROOT = pathlib.Path(__file__).parents[2]


def overseer(cache: pathlib.Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(cache), "OVERSEER_CACHE": str(cache), **changes}
    command = [sys.executable, "-W", "error", "-m", "overseer_training.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_rows_of_installed_programs_and_what_packages_are_for_are_told(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSEER_CACHE", str(tmp_path))
    write_rows([Row("wc", "use wc to count the lines: a.txt", f"wc -l {name}.txt") for name in "ab"])
    lines = overseer(tmp_path, "data", "sources").stdout.splitlines()
    assert any(line.startswith("help: 2 rows of 1 installed programs, used with --sources help") for line in lines)
    assert any(line.startswith("packages: ") and "`overseer tools`" in line and "no rows" in line for line in lines)


def test_without_a_sandbox_no_program_is_asked(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bin").mkdir()
    listed = overseer(tmp_path, "data", "sources", PATH=str(tmp_path / "bin"))
    [line] = [line for line in listed.stdout.splitlines() if line.startswith("help: ")]
    assert "none works here" in line and "bubblewrap" in line
    asked = overseer(tmp_path, "data", "programs", PATH=str(tmp_path / "bin"))
    assert asked.returncode == 7 and asked.stderr.startswith("error: bubblewrap is not installed")
    assert asked.stderr.count("\n") == 1 and not (tmp_path / "help.jsonl").exists()
