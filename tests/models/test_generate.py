"""Answers are greedy, or drawn in a way that a seed repeats."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import torch

from overseer_training.models import load
from overseer_training.models.custom import build_custom_model
from overseer_training.models.decoding import BEAMS, Sampling
from overseer_training.models.generate import generate
from overseer_training.prompts import with_system
from overseer_training.records import Turn

DIMENSIONS = {
    "vocabulary_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "attention_heads": 4,
    "key_value_heads": 2,
}
ASKED = [with_system([Turn("user", f"list {name}")]) for name in ("src", "the docs folder", "logs of today", "tmp")]
TOKENS = 8


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> load.LoadedModel:
    folder: pathlib.Path = tmp_path_factory.mktemp("model")
    build_custom_model(DIMENSIONS, ["list src", "ls src", "the docs folder"], folder, sequence_length=64, seed=1)
    return load.load_trained(folder, dtype=torch.float32)


def answers(loaded: load.LoadedModel, sampling: Sampling | None = None, copies: int = 1) -> list[str]:
    asked = [messages for messages in ASKED for _ in range(copies)]
    return generate(loaded, asked, max_new_tokens=TOKENS, batch_size=3, sampling=sampling, beams=1)


def test_a_seed_repeats_what_was_drawn_and_another_draws_something_else(loaded: load.LoadedModel) -> None:
    drawn = answers(loaded, Sampling(seed=7))
    assert drawn == answers(loaded, Sampling(seed=7))
    assert drawn != answers(loaded, Sampling(seed=8))
    assert drawn != answers(loaded)


def test_a_conversation_that_is_given_several_times_gets_several_answers(loaded: load.LoadedModel) -> None:
    drawn = answers(loaded, Sampling(), copies=4)
    assert len(set(drawn[:4])) > 1


def test_sampling_changes_no_greedy_answer_and_no_random_numbers_of_others(loaded: load.LoadedModel) -> None:
    greedy = answers(loaded)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    answers(loaded, Sampling(seed=7))
    assert torch.equal(torch.rand(1), expected)
    assert answers(loaded) == greedy


@pytest.mark.parametrize("sampling", [Sampling(temperature=1e-4), Sampling(top_p=1e-6)])
def test_without_room_for_chance_the_greedy_answer_is_drawn(loaded: load.LoadedModel, sampling: Sampling) -> None:
    assert answers(loaded, sampling) == answers(loaded)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"temperature": float("nan")}])
def test_what_nothing_can_be_drawn_with_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_the_likeliest_answer_is_searched_for_unless_something_else_is_asked(
    loaded: load.LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []

    def search(model: Any, prompts: list[list[int]], **options: Any) -> list[list[int]]:
        searched.append(options["beams"])
        return [[] for _ in prompts]

    monkeypatch.setattr("overseer_training.models.generate.search_batch", search)
    answers(loaded)
    answers(loaded, Sampling())
    assert not searched
    generate(loaded, ASKED[:1], max_new_tokens=TOKENS)
    assert searched == [BEAMS]
