"""Decoding gives what transformers' own loop gives, while rows that have ended leave the batch; a search finds what is likelier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from overseer_training.models.decoding import Sampling, decode_batch, search_batch

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [20, 21], [30, 31, 32], [3], [40, 41, 42, 43, 44], [9, 9]]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
NEW_TOKENS = 24
NEVER = [999]  # no token ends an answer


def make(kind: str, **options: Any) -> Any:
    torch.manual_seed(4)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, **options)).eval()
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**SIZES, **options, head_dim=8, sliding_window=6, layer_types=layers)
    return Gemma3ForCausalLM(config).eval()


def make_decided(kind: str) -> Any:
    """A model whose chances differ, as those of a trained one do."""
    return make(kind, initializer_range=0.7, tie_word_embeddings=False)


def expected_of(model: Any, prompt: list[int], stop_ids: list[int]) -> list[int]:
    ids_bt = torch.tensor([prompt])
    mask_bt = torch.ones_like(ids_bt)
    output_bt = model.generate(
        input_ids=ids_bt, attention_mask=mask_bt, max_new_tokens=NEW_TOKENS, do_sample=False,
        eos_token_id=stop_ids, pad_token_id=0,
    )  # fmt: skip
    return list(output_bt[0, len(prompt) :].tolist())


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_each_answer_is_that_of_its_prompt_alone_in_transformers(kind: str) -> None:
    model = make(kind)
    said = [expected_of(model, prompt, NEVER) for prompt in PROMPTS]
    stops = sorted(
        {said[0][1], said[2][4], said[4][9]}
    )  # some answers end early, so that others go on in a smaller batch
    expected = [expected_of(model, prompt, stops) for prompt in PROMPTS]
    assert len({len(answer) for answer in expected}) > 2
    found = decode_batch(model, PROMPTS, stop_ids=stops, pad_id=0, max_new_tokens=NEW_TOKENS)
    assert found == expected


def test_rows_that_ended_are_not_computed_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    said = [expected_of(model, prompt, NEVER) for prompt in PROMPTS]
    stops = [said[0][1], said[1][1], said[2][1]]
    rows = []
    forward = model.forward

    def counting(*args: Any, **named: Any) -> Any:
        rows.append(len(named["input_ids"]))
        return forward(*args, **named)

    monkeypatch.setattr(model, "forward", counting)
    answers = decode_batch(model, PROMPTS, stop_ids=stops, pad_id=0, max_new_tokens=NEW_TOKENS)
    assert rows[0] == len(PROMPTS) and rows[-1] <= len(PROMPTS) // 2
    assert len(rows) == max(map(len, answers))


def test_top_p_draws_from_the_likeliest_tokens_alone() -> None:
    model = make("llama")
    with torch.inference_mode():
        probabilities_v = (model(torch.tensor([PROMPTS[0]])).logits[0, -1] / 0.5).softmax(-1)
    sorted_v, order_v = probabilities_v.sort(descending=True)
    allowed = set(order_v[: int((sorted_v.cumsum(0) - sorted_v < 0.3).sum())].tolist())
    random_numbers = torch.Generator().manual_seed(0)
    drawn = {
        decode_batch(model, [PROMPTS[0]], stop_ids=[], pad_id=0, max_new_tokens=1,
                     sampling=Sampling(0.5, 0.3), random_numbers=random_numbers)[0][0]
        for _ in range(60)
    }  # fmt: skip
    assert len(drawn) > 1 and drawn <= allowed


STOP = 0


def chances_of(model: Any, prompt: list[int]) -> torch.Tensor:
    """Log-probabilities of the next token, (v,)."""
    with torch.inference_mode():
        chances_v: torch.Tensor = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    return chances_v


def likeliest_of_two_tokens(model: Any, prompt: list[int]) -> list[int]:
    """By trying all: the likeliest answer that ends at once or with its second token."""
    first_v = chances_of(model, prompt)
    ended = {(STOP,): float(first_v[STOP])}
    for token in range(SIZES["vocab_size"]):
        if token != STOP:
            ended[token, STOP] = float(first_v[token] + chances_of(model, [*prompt, token])[STOP])
    return list(max(ended, key=lambda answer: ended[answer]))


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_search_of_everything_finds_the_likeliest_answer(kind: str) -> None:
    model = make_decided(kind)
    expected = [likeliest_of_two_tokens(model, prompt) for prompt in PROMPTS]
    found = search_batch(model, PROMPTS, stop_ids=[STOP], pad_id=0, max_new_tokens=2, beams=SIZES["vocab_size"] ** 2)
    assert found == expected
    assert {len(answer) for answer in expected} == {1, 2}


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_one_beam_is_greedy(kind: str) -> None:
    model = make(kind)
    stops = [expected_of(model, PROMPTS[0], NEVER)[3], expected_of(model, PROMPTS[2], NEVER)[9]]
    expected = [expected_of(model, prompt, stops) for prompt in PROMPTS]
    found = search_batch(model, PROMPTS, stop_ids=stops, pad_id=0, max_new_tokens=NEW_TOKENS, beams=1)
    assert found == expected


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_a_search_gives_the_same_whoever_else_is_in_the_batch(kind: str) -> None:
    model = make_decided(kind)
    stops = list(range(6))
    together = search_batch(model, PROMPTS, stop_ids=stops, pad_id=0, max_new_tokens=NEW_TOKENS)
    alone = [
        search_batch(model, [prompt], stop_ids=stops, pad_id=0, max_new_tokens=NEW_TOKENS)[0] for prompt in PROMPTS
    ]
    assert together == alone


def test_a_search_that_is_stopped_gives_what_it_has() -> None:
    model = make("llama")
    asked = iter([False, False, True])
    found = search_batch(
        model, PROMPTS, stop_ids=NEVER, pad_id=0, max_new_tokens=NEW_TOKENS, should_stop=lambda: next(asked)
    )
    assert [len(answer) for answer in found] == [2] * len(PROMPTS)
