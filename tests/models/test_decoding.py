"""Decoding gives what transformers' own loop gives, while rows that have ended leave the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from overseer_training.models.decoding import Sampling, decode_batch

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


def make(kind: str) -> Any:
    torch.manual_seed(4)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    layers = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=6, layer_types=layers)).eval()


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
