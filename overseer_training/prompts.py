"""The one definition of what the model is told before a request: training, evaluation, serving and export all use it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from overseer_training.records import Platform, Turn

# As short as they can be: they stand before every request. A sentence takes 19 tokens where these take 8, of about 50 a row.
SYSTEM_PROMPTS: dict[Platform, str] = {"linux": "Linux shell.", "macos": "macOS shell."}
EXPLAIN_REQUEST = "Explain this command."
REPAIR_REQUEST = "The command failed:\n$ {command}\n{stderr}\nexit code {exit_code}\nGive the repaired command."
# What tokenizers of the models here read as the end of a turn or of a text, and not as letters.
CONTROL = re.compile(r"<(?=\|\w{1,40}\|>|/?s>|(?:start|end)_of_(?:turn|image)>|(?:bos|eos|pad|unk)>)")


def with_system(turns: Sequence[Turn], platform: Platform = "linux", system: str | None = None) -> list[dict[str, str]]:
    """Messages for the chat template: the system prompt of `platform` (or `system`), then `turns`.

    Signs that end a turn are taken apart in what a user says, so that no request, file name or log line can play another role.
    """
    opening = Turn("system", SYSTEM_PROMPTS[platform] if system is None else system)
    said = [dataclasses.replace(turn, content=neutral(turn.content)) if turn.role == "user" else turn for turn in turns]
    return [turn.as_message() for turn in (opening, *said)]


def neutral(text: str) -> str:
    """`text` with the signs that end a turn taken apart, for whatever others say to the model."""
    return CONTROL.sub("< ", text)
