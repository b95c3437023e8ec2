"""Decodes a batch token by token, and computes only what is still wanted.

Takes prompts as token ids; gives answers as token ids. `search_batch` looks for the likeliest answer, `decode_batch` draws one, or takes
the likeliest token each time. What has ended, or cannot win any more, leaves the batch with its keys and values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

BEAMS = 4  # answers of a prompt that are followed at a time; chosen: docs/results.md has what they are worth
LIKELIEST = 256  # tokens, which nearly always hold all of top_p: sorting a whole vocabulary takes longer than the model


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: after `temperature`, from the likeliest ones whose probabilities add up to `top_p`.

    The same seed, conversations and batch size give the same answers on the same machine.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 < self.top_p <= 1):
            raise ValueError("a temperature above 0 and a top_p above 0 and up to 1 are needed")


def decode_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    random_numbers: torch.Generator | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[list[int]]:
    """The answer to each prompt, with the token that ended it where one did.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        sampling: None takes the likeliest token each time; else `random_numbers` decide.
        should_stop: asked before each token; what there is so far is given then.
    """
    import torch

    answers: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    wanted = [True] * len(prompts)
    with torch.inference_mode():
        rows = _Rows(model, prompts, pad_id)
        for _ in range(max_new_tokens):
            if should_stop():
                break
            chosen = _choose(rows.logits(), sampling, random_numbers).tolist()
            for prompt, token in zip(active, chosen, strict=True):
                if wanted[prompt]:
                    answers[prompt].append(token)
                    wanted[prompt] = token not in stop_ids
            kept = [row for row, prompt in enumerate(active) if wanted[prompt]]
            if not kept:
                break
            if 2 * len(kept) > len(active):  # to take a few rows out costs more than to compute them
                kept = list(range(len(active)))
            rows.go_on(kept, [chosen[row] for row in kept])
            active = [active[row] for row in kept]
    return answers


@dataclasses.dataclass
class _Hypothesis:
    """The beginning of an answer, or all of it.

    Attributes:
        row: of the batch that computed it last.
        log_probability: of all its tokens, nats.
    """

    prompt: int
    row: int
    tokens: list[int]
    log_probability: float


def search_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    pad_id: int,
    max_new_tokens: int,
    beams: int = BEAMS,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[list[int]]:
    """The likeliest answer to each prompt that a beam search finds, with the token that ended it where one did.

    An answer only grows less likely with each token, so the search ends where no open hypothesis is likelier than one that has ended.
    Answers are not preferred for being long.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        beams: hypotheses of a prompt that are followed at a time; one is greedy.
        should_stop: asked before each token; what there is so far is given then.
    """
    import torch

    best: list[_Hypothesis | None] = [None] * len(prompts)  # of those that have ended
    live = [_Hypothesis(prompt, prompt, [], 0.0) for prompt in range(len(prompts))]
    with torch.inference_mode():
        rows = _Rows(model, prompts, pad_id)
        for number in range(max_new_tokens):
            if should_stop():
                break
            chances_rv = rows.logits().float().log_softmax(-1)
            likeliest_rk, tokens_rk = chances_rv.topk(min(beams, chances_rv.shape[-1]))
            steps = zip(live, likeliest_rk.tolist(), tokens_rk.tolist(), strict=True)
            grown: dict[int, list[_Hypothesis]] = {}
            for row, (hypothesis, likeliest, tokens) in enumerate(steps):
                for added, token in zip(likeliest, tokens, strict=True):
                    total = hypothesis.log_probability + added
                    longer = _Hypothesis(hypothesis.prompt, row, [*hypothesis.tokens, token], total)
                    grown.setdefault(hypothesis.prompt, []).append(longer)
            live = []
            for prompt, hypotheses in grown.items():
                hypotheses.sort(key=lambda hypothesis: -hypothesis.log_probability)
                opened, best[prompt] = _split(hypotheses[:beams], best[prompt], stop_ids)
                live += opened
            if not live or number + 1 == max_new_tokens:
                break
            rows.go_on([hypothesis.row for hypothesis in live], [hypothesis.tokens[-1] for hypothesis in live])
    open_one: dict[int, _Hypothesis] = {}
    for hypothesis in live:  # the likeliest of a prompt comes first
        open_one.setdefault(hypothesis.prompt, hypothesis)
    return [(ended or open_one[prompt]).tokens for prompt, ended in enumerate(best)]


def _split(
    hypotheses: Sequence[_Hypothesis], best: _Hypothesis | None, stop_ids: Collection[int]
) -> tuple[list[_Hypothesis], _Hypothesis | None]:
    """Those that are open and may still win, and the best of all that have ended. `hypotheses`: the likeliest first."""
    opened: list[_Hypothesis] = []
    for hypothesis in hypotheses:
        if best is not None and hypothesis.log_probability <= best.log_probability:
            break
        if hypothesis.tokens[-1] in stop_ids:
            return opened, hypothesis
        opened.append(hypothesis)
    return opened, best


class _Rows:
    """The rows of a batch: what the model has seen of each, and its keys and values."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> None:
        import torch

        longest = max(len(prompt) for prompt in prompts)
        self._model, self._cache = model, None
        self._ids_bt = torch.tensor([[pad_id] * (longest - len(p)) + list(p) for p in prompts], device=model.device)
        self._mask_bt = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        self._positions_bt = (self._mask_bt.cumsum(1) - 1).clamp(min=0)

    def logits(self) -> torch.Tensor:
        """Of the next token of each row, (b, v)."""
        output = self._model(
            input_ids=self._ids_bt,
            attention_mask=self._mask_bt,
            position_ids=self._positions_bt,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        logits_bv: torch.Tensor = output.logits[:, -1]
        return logits_bv

    def go_on(self, kept: Sequence[int], tokens: Sequence[int]) -> None:
        """Make the batch of the rows `kept`, of which one may be there several times, each with one token more."""
        import torch

        if kept != list(range(len(self._ids_bt))):
            rows = torch.tensor(kept, device=self._ids_bt.device)
            self._mask_bt, self._positions_bt = self._mask_bt[rows], self._positions_bt[rows]
            assert self._cache is not None  # `logits` was called
            self._cache.batch_select_indices(rows)
        self._ids_bt = torch.tensor(tokens, device=self._mask_bt.device)[:, None]
        self._positions_bt = self._positions_bt[:, -1:] + 1
        self._mask_bt = torch.cat([self._mask_bt, self._mask_bt.new_ones(len(kept), 1)], 1)


def _choose(logits_bv: torch.Tensor, sampling: Sampling | None, random_numbers: torch.Generator | None) -> torch.Tensor:
    """Token ids (b,)."""
    import torch

    if sampling is None:
        return logits_bv.argmax(-1)
    probabilities_bv = (logits_bv.float() / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        sorted_bk, order_bk = probabilities_bv.topk(min(LIKELIEST, probabilities_bv.shape[-1]))
        if bool((sorted_bk.sum(-1) < sampling.top_p).any()):
            sorted_bk, order_bk = probabilities_bv.sort(-1, descending=True)
        sorted_bk[sorted_bk.cumsum(-1) - sorted_bk >= sampling.top_p] = 0  # the likeliest always stays
        chosen_b1 = torch.multinomial(sorted_bk, 1, generator=random_numbers)
        return order_bk.gather(-1, chosen_b1)[:, 0]
    return torch.multinomial(probabilities_bv, 1, generator=random_numbers)[:, 0]
