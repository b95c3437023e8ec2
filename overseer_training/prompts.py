"""The one definition of what the model is told before a request: training, evaluation, serving and export all use it."""

from __future__ import annotations

from collections.abc import Sequence

from overseer_training.records import Platform, Turn

# As short as they can be: they stand before every request. A sentence takes 19 tokens where these take 8, of about 50 a row.
SYSTEM_PROMPTS: dict[Platform, str] = {"linux": "Linux shell.", "macos": "macOS shell."}
EXPLAIN_REQUEST = "Explain this command."
REPAIR_REQUEST = "The command failed:\n$ {command}\n{stderr}\nexit code {exit_code}\nGive the repaired command."


def with_system(turns: Sequence[Turn], platform: Platform = "linux", system: str | None = None) -> list[dict[str, str]]:
    """Messages for the chat template: the system prompt of `platform` (or `system`), then `turns`."""
    opening = Turn("system", SYSTEM_PROMPTS[platform] if system is None else system)
    return [turn.as_message() for turn in (opening, *turns)]
