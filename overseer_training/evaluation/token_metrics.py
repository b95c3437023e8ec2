"""Loss and accuracy on answer tokens, with the true answer's earlier tokens given (teacher forcing)."""

from __future__ import annotations

from typing import Any

import torch

from overseer_training.data.tokenize import TokenSet
from overseer_training.intervals import score_means
from overseer_training.records import Score
from overseer_training.training.batches import evaluation_batches
from overseer_training.training.loss import answer_loss, count_right
from overseer_training.training.packing import make_batch

TOKENS_AT_ONCE = 2048


@torch.inference_mode()
def measure_tokens(model: Any, tokens: TokenSet, device: str) -> dict[str, Score]:
    """`answer_loss` (nats per answer token) and `token_accuracy` (fraction), intervals by resampling rows."""
    losses, rights, counts = [], [], []
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    head = model.get_output_embeddings().weight
    for rows in evaluation_batches(tokens, TOKENS_AT_ONCE):
        batch = make_batch(tokens, rows, model.config, head.dtype, device)
        hidden_btd = model.get_decoder()(**batch.inputs, use_cache=False).last_hidden_state
        hidden_nd = hidden_btd.flatten(0, 1).index_select(0, batch.predicting_n)
        parts = zip(hidden_nd.split(batch.counts), batch.targets_n.split(batch.counts), strict=True)
        for hidden, targets in parts:
            losses.append(float(answer_loss(hidden, head, targets, softcap)))
            rights.append(count_right(hidden, head, targets))
            counts.append(len(targets))
    return {"answer_loss": score_means(losses, counts), "token_accuracy": score_means(rights, counts)}
