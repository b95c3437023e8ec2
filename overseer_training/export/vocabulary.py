"""The tokenizer that training used, as GGUF metadata.

Takes tokenizer.json and tokenizer_config.json of a model folder; gives a `Vocabulary`. tokenizer.json is the only
source, also for a base that came as GGUF: it is what training tokenized with, and the two differ (loading SmolLM2's
GGUF with transformers 5.23 loses the split of digits: two spaces before a digit become two tokens instead of one).
Not covered: WordPiece, Unigram, and pre-tokenizers that are not in `PRE_TOKENIZERS`.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any, Literal

from overseer_training.errors import ModelError
from overseer_training.export.model_folder import read_json

# Token types of GGUF (gguf.TokenType).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
# llama.cpp's names for ways to split text before BPE, keyed by the steps in tokenizer.json.
# "trillion" is the same expression as "gpt-2"; but with "gpt-2" llama_detokenize() also removes the first space in
# `find . -name` (llama-vocab.cpp, clean_spaces), which changes what a command means.
PRE_TOKENIZERS: dict[tuple[str, ...], str] = {("ByteLevel",): "trillion", ("Digits", "ByteLevel"): "smollm"}
UNREACHABLE_SCORE = -1e9  # below any merge rank: SentencePiece never merges towards such a token
SPACE_MARK = "▁"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Tokenizer metadata of a GGUF file; field names follow `tokenizer.ggml.*`.

    Attributes:
        model: "gpt2" for byte-level BPE, "llama" for SentencePiece-style BPE.
        tokens, types: one for each row of the embedding.
        merges: "left right" by rank; byte-level BPE only.
        scores: minus the merge rank; SentencePiece only.
        ids: bos, eos, eot, unknown and padding ids, where the model has them.
    """

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    ids: dict[str, int]
    add_bos: bool
    add_space_prefix: bool


def read_vocabulary(folder: pathlib.Path, row_count: int, stop_tokens: tuple[str, ...]) -> Vocabulary:
    """The vocabulary of `folder`, filled up with unused tokens to the `row_count` rows of the embedding.

    Raises:
        ModelError: the tokenizer is of a kind that llama.cpp would split differently, or does not fit the embedding.
    """
    data = read_json(folder / "tokenizer.json")
    settings = read_json(folder / "tokenizer_config.json")
    model = data.get("model", {})
    if model.get("type") != "BPE":
        raise _unsupported(folder, f"the model type {model.get('type')}")
    added = {int(entry["id"]): entry for entry in data.get("added_tokens", [])}
    by_id = {int(index): token for token, index in model["vocab"].items()}
    by_id.update({index: entry["content"] for index, entry in added.items()})
    if by_id and max(by_id) >= row_count:
        raise ModelError(f"{folder} has {max(by_id) + 1} tokens for {row_count} embedding rows. Train again.")
    is_byte_level = not model.get("byte_fallback", False)
    tokens = [by_id.get(index, f"[PAD{index}]") for index in range(row_count)]
    types = [_token_type(by_id.get(i), added.get(i), is_byte_level, model.get("unk_token")) for i in range(row_count)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    ids = _special_ids(settings, {token: index for index, token in by_id.items()}, stop_tokens)
    return Vocabulary(
        model="gpt2" if is_byte_level else "llama",
        pre=_byte_level_split(folder, data) if is_byte_level else _check_sentencepiece(folder, data),
        tokens=tokens,
        types=types,
        merges=merges if is_byte_level else [],
        scores=[] if is_byte_level else _scores(tokens, model["merges"]),
        ids=ids,
        add_bos=_adds_bos(data, ids.get("bos")),
        add_space_prefix=any(step["type"] == "Prepend" for step in _steps(data.get("normalizer"))),
    )


def _token_type(token: str | None, added: dict[str, Any] | None, is_byte_level: bool, unknown: str | None) -> int:
    if token is None:
        return UNUSED
    if not is_byte_level and token == unknown:
        return UNKNOWN
    if added is not None:
        return CONTROL if added.get("special") else USER_DEFINED
    if not is_byte_level and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return BYTE
    return NORMAL


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer of tokenizer.json, with sequences flattened."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for inner in part.get("normalizers") or part.get("pretokenizers") or [] for step in _steps(inner)]


def _byte_level_split(folder: pathlib.Path, data: dict[str, Any]) -> str:
    steps = _steps(data.get("pre_tokenizer"))
    for step in steps:
        if step["type"] == "ByteLevel" and (step.get("add_prefix_space") or not step.get("use_regex", True)):
            raise _unsupported(folder, "a ByteLevel step with another expression or a prefix space")
        if step["type"] == "Digits" and not step.get("individual_digits"):
            raise _unsupported(folder, "digits that are split off in groups")
    names = tuple(step["type"] for step in steps)
    if names not in PRE_TOKENIZERS:
        raise _unsupported(folder, f"the pre-tokenizer {' + '.join(names) or 'none'}")
    if data.get("normalizer") is not None or data["model"].get("ignore_merges"):
        raise _unsupported(folder, "a normalizer or ignored merges")
    return PRE_TOKENIZERS[names]


def _check_sentencepiece(folder: pathlib.Path, data: dict[str, Any]) -> str:
    """Accept spaces written as ▁ (Llama 2, Gemma), and nothing that llama.cpp's SentencePiece code does not do."""
    normalizers = _steps(data.get("normalizer"))
    replaces = [s for s in normalizers if s["type"] == "Replace" and s.get("content") == SPACE_MARK]
    others = [
        s for s in normalizers if s not in replaces and not (s["type"] == "Prepend" and s["prepend"] == SPACE_MARK)
    ]
    splits = [s for s in _steps(data.get("pre_tokenizer")) if s["type"] != "Split" or s["pattern"] != {"String": " "}]
    if not replaces or others or splits:
        raise _unsupported(folder, "byte fallback with other steps than writing spaces as ▁")
    return "default"


def _scores(tokens: list[str], merges: list[Any]) -> list[float]:
    """Minus the first rank that produces each token: SentencePiece merges towards the highest score."""
    rank_of: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        rank_of.setdefault(left + right, rank)
    return [-float(rank_of[token]) if token in rank_of else UNREACHABLE_SCORE for token in tokens]


def _special_ids(settings: dict[str, Any], id_of: dict[str, int], stop_tokens: tuple[str, ...]) -> dict[str, int]:
    named = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    ids: dict[str, int] = {}
    for key, setting in named.items():
        value = settings.get(setting)
        token = value.get("content") if isinstance(value, dict) else value
        if token in id_of:
            ids[key] = id_of[token]
    for token in stop_tokens:
        if token not in id_of:
            raise ModelError(f"The stop token {token} is not one token of this tokenizer: answers would never end.")
    if stop_tokens:
        ids["eot"] = id_of[stop_tokens[0]]
        ids.setdefault("eos", ids["eot"])
    return ids


def _adds_bos(data: dict[str, Any], bos: int | None) -> bool:
    """Whether encoding puts the begin-of-text token first, by its post-processor."""
    processor = data.get("post_processor") or {}
    parts = processor.get("processors", [processor])
    singles = [part["single"] for part in parts if part.get("type") == "TemplateProcessing"]
    specials = [step["SpecialToken"]["id"] for single in singles for step in single[:1] if "SpecialToken" in step]
    names = {int(entry["id"]): entry["content"] for entry in data.get("added_tokens", [])}
    return bool(specials) and names.get(bos if bos is not None else -1) == specials[0]


def _unsupported(folder: pathlib.Path, what: str) -> ModelError:
    return ModelError(
        f"The tokenizer of {folder} has {what}, which this GGUF writer cannot promise to reproduce. "
        "Export safetensors and run llama.cpp's convert_hf_to_gguf.py on them."
    )
