"""The command in an answer."""

from __future__ import annotations

import pytest

from overseer_training.models.generate import extract_command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ls -l", "ls -l"),
        ("$ ls", "ls"),
        ("`ls`", "ls"),
        ("Use:\n```bash\nls -l\n```\nDone", "ls -l"),
        ("", ""),
        ("```", ""),
    ],
)
def test_the_command_is_found(text: str, command: str) -> None:
    assert extract_command(text) == command


@pytest.mark.parametrize(
    ("text", "command"), [("```Bash\nls\n```", "ls"), ("```bash\ntar c \\\n  a\n```", "tar c a"), ("Sure:\n\nls", "ls")]
)
def test_the_command_is_found_in_less_tidy_answers(text: str, command: str) -> None:
    assert " ".join(extract_command(text).split()) == command
