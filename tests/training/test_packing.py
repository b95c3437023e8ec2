from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from overseer_training.data.tokenize import IGNORED, TokenSet
from overseer_training.models import attention, fused
from overseer_training.training.loss import answer_loss
from overseer_training.training.packing import MOST_FILLER, Batch, EmptyBatchError, make_batch, pack_rows, pad_rows

from .conftest import VOCABULARY, make_tokens

HEADS = (4, 2)  # of queries, and of keys and values
LINUX, MACOS = [1, 5, 6, 7, 8, 2, 9], [1, 5, 6, 7, 8, 3, 4, 2, 9]
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS[0],
    "num_key_value_heads": HEADS[1],
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def conversations(heads: list[list[int]], seed: int = 0) -> TokenSet:
    """Rows that begin with one of `heads`, then a request and an answer of random lengths."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    labels: list[int] = []
    starts = [0]
    for head in heads:
        request, answer = (
            rng.integers(10, VOCABULARY, rng.integers(1, 9)),
            rng.integers(10, VOCABULARY, rng.integers(1, 7)),
        )
        ids += [*head, *map(int, request), *map(int, answer)]
        labels += [IGNORED] * (len(head) + len(request)) + [int(token) for token in answer]
        starts.append(len(ids))
    return TokenSet(np.array(ids, np.int32), np.array(labels, np.int32), np.array(starts, np.int64))


def make_model(kind: str, form: str) -> Any:
    torch.manual_seed(0)
    if kind == "gemma":
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        model: Any = Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=48, layer_types=kinds))
    else:
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.set_attn_implementation(form)
    return model


def loss_and_gradients(model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    hidden = model.get_decoder()(**batch.inputs, use_cache=False).last_hidden_state.flatten(0, 1)
    loss = answer_loss(hidden[batch.predicting_n], model.get_output_embeddings().weight, batch.targets_n)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "library"])
@pytest.mark.parametrize("kind", ["llama", "gemma"])
@pytest.mark.parametrize(
    "heads",
    [[LINUX] * 9, [LINUX, MACOS] * 4, [LINUX], [[11], [12, 13], LINUX, LINUX], [LINUX, [1, 5, 6, 7, 8, 2, 10]] * 2],
    ids=["one head", "two heads", "one row", "some share", "the head differs late"],
)
def test_packed_rows_give_the_loss_and_gradients_of_padded_rows(
    kind: str, heads: list[list[int]], is_fused: bool
) -> None:
    tokens = conversations(heads)
    rows = range(len(heads))
    plain, packed = make_model(kind, "sdpa"), make_model(kind, attention.NAME)
    assert attention.suits(packed.config, int(tokens.lengths.max()), "cpu")
    if is_fused:
        assert fused.install(packed) > 9
    expected_loss, expected = loss_and_gradients(plain, make_batch(tokens, rows, plain.config, torch.float32, "cpu"))
    loss, found = loss_and_gradients(packed, make_batch(tokens, rows, packed.config, torch.float32, "cpu"))
    torch.testing.assert_close(loss, expected_loss)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_shared_start_is_computed_once() -> None:
    tokens = conversations([LINUX] * 8 + [MACOS] * 8)
    batch = pack_rows(tokens, range(16), HEADS, torch.float32, "cpu")
    shared = batch.inputs["layout"].shared
    assert shared >= 5
    predicting_nothing = 16  # the last token of each row
    computed = int(tokens.lengths.sum()) - predicting_nothing - 14 * shared
    assert computed <= batch.inputs["input_ids"].numel() <= computed * (1 + MOST_FILLER)


def test_long_rows_do_not_widen_the_short_ones() -> None:
    lengths = [100, 90, 40, 8, 8, 8]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, starts[-1]).astype(np.int32)
    tokens = TokenSet(ids, ids, starts)
    layout = pack_rows(tokens, range(6), HEADS, torch.float32, "cpu").inputs["layout"]
    assert [block.rows for block in layout.blocks] == [2, 1, 3]
    assert layout.blocks[-1].queries.stop < 1.2 * sum(lengths) * HEADS[0]


def test_both_forms_predict_the_same_answers() -> None:
    tokens = make_tokens(6)
    answers = [label for label in tokens.labels[: tokens.starts[3]].tolist() if label != IGNORED]
    for batch in (pad_rows(tokens, [0, 1, 2], "cpu"), pack_rows(tokens, [0, 1, 2], HEADS, torch.float32, "cpu")):
        assert batch.targets_n.tolist() == answers
        assert sum(batch.counts) == len(answers)
        before = batch.inputs["input_ids"].flatten()[batch.predicting_n]
        at = np.flatnonzero(tokens.labels[: tokens.starts[3]] != IGNORED)
        assert before.tolist() == tokens.ids[at - 1].tolist()


def test_a_batch_without_answers_is_an_error() -> None:
    tokens = TokenSet(np.array([1, 2, 3], np.int32), np.full(3, IGNORED, np.int32), np.array([0, 3], np.int64))
    with pytest.raises(EmptyBatchError):
        pad_rows(tokens, [0], "cpu")
