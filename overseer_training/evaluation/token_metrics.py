"""Loss and accuracy on answer tokens, with the true answer's earlier tokens given (teacher forcing)."""

from __future__ import annotations

from typing import Any

import torch

from overseer_training.data.tokenize import TokenSet
from overseer_training.evaluation.statistics import score_means
from overseer_training.records import Score
from overseer_training.training.batches import evaluation_batches, pad_rows
from overseer_training.training.loss import answer_loss, count_right, select_answers

TOKENS_AT_ONCE = 2048


@torch.inference_mode()
def measure_tokens(model: Any, tokens: TokenSet, pad_id: int, device: str) -> dict[str, Score]:
    """`answer_loss` (nats per answer token) and `token_accuracy` (fraction), intervals by resampling rows."""
    losses, rights, counts = [], [], []
    softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    head = model.get_output_embeddings().weight
    for rows in evaluation_batches(tokens, TOKENS_AT_ONCE):
        ids_bt, labels_bt = pad_rows(tokens, rows, pad_id, device)
        hidden_btd = model.get_decoder()(input_ids=ids_bt, use_cache=False).last_hidden_state
        for position in range(len(rows)):
            hidden_nd, targets_n = select_answers(
                hidden_btd[position : position + 1], labels_bt[position : position + 1]
            )
            losses.append(float(answer_loss(hidden_nd, head, targets_n, softcap)))
            rights.append(count_right(hidden_nd, head, targets_n))
            counts.append(len(targets_n))
    return {"answer_loss": score_means(losses, counts), "token_accuracy": score_means(rights, counts)}
