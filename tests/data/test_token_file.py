"""Tokens on disk: those that tokenizing gives, made once, made again where anything changed, and never of what an owner did."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import torch

from overseer_training.data import token_file
from overseer_training.data.row_file import copy_rows
from overseer_training.data.token_file import training_tokens
from overseer_training.data.tokenize import TokenSet, tokenize
from overseer_training.errors import PreflightError
from overseer_training.models.custom import build_custom_model
from overseer_training.models.load import load_tokenizer, stop_ids
from overseer_training.records import Example, Turn
from overseer_training.training.packing import pack_rows, pad_rows

SIZES = {
    "vocabulary_size": 500, "hidden_size": 16, "intermediate_size": 16, "layers": 1, "attention_heads": 1,
    "key_value_heads": 1,
}  # fmt: skip


def row(number: int, source: str = "corpus") -> Example:
    turns = (Turn("user", f"list {'many ' * (number % 5)}files"), Turn("assistant", f"ls -{number}"))
    return Example(f"row-{number}", "family", "command", turns, "linux", source)


ROWS = [row(number) for number in range(5000)]  # more than are tokenized at once


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("model")
    build_custom_model(SIZES, ["list many files ls -l"], folder, sequence_length=64, seed=1)
    return folder


@pytest.fixture(scope="module")
def tokenizer(model: pathlib.Path) -> Any:
    return load_tokenizer(model)


def tokens_of(
    data: pathlib.Path, model: pathlib.Path, tokenizer: Any, rows: list[Example], length: int = 64
) -> TokenSet:
    splits = copy_rows({"train": rows}, data)
    return training_tokens(splits["train"], data, tokenizer, model, length, stop_ids(tokenizer))


def test_mapped_tokens_are_those_in_memory(tmp_path: pathlib.Path, model: pathlib.Path, tokenizer: Any) -> None:
    mapped = tokens_of(tmp_path, model, tokenizer, ROWS)
    expected = tokenize(ROWS, tokenizer, 64, stop_ids(tokenizer))
    for name in ("ids", "labels", "starts"):
        assert np.array_equal(getattr(mapped, name), getattr(expected, name)), name
        assert getattr(mapped, name).dtype == getattr(expected, name).dtype
    assert mapped.digest == expected.digest and mapped.is_mapped and len(mapped) == len(ROWS)
    for make in (pack_rows, pad_rows):
        arguments: Any = ((2, 1), torch.float32, "cpu") if make is pack_rows else ("cpu",)
        ours, theirs = (make(tokens, [7, 4999, 3], *arguments) for tokens in (mapped, expected))
        assert torch.equal(ours.inputs["input_ids"], theirs.inputs["input_ids"])
        assert torch.equal(ours.targets_n, theirs.targets_n)
    longest = int(expected.lengths.max())
    shorter = tokens_of(tmp_path, model, tokenizer, ROWS, longest - 1)
    assert 0 < shorter.too_long == len(ROWS) - len(shorter)


def test_tokens_are_made_once_and_again_when_anything_changed(
    tmp_path: pathlib.Path, model: pathlib.Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = token_file.tokenize_rows

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return make(*arguments)

    monkeypatch.setattr(token_file, "tokenize_rows", counted)
    first = tokens_of(tmp_path, model, tokenizer, ROWS[:50])
    assert tokens_of(tmp_path, model, tokenizer, ROWS[:50]).digest == first.digest and len(made) == 1
    assert tokens_of(tmp_path, model, tokenizer, ROWS[:49]).digest != first.digest and len(made) == 2
    tokens_of(tmp_path, model, tokenizer, ROWS[:49], length=63)
    assert len(made) == 3
    ids = tmp_path / "tokens" / "ids"
    damaged = bytearray(ids.read_bytes())
    damaged[7] ^= 1
    ids.write_bytes(damaged)
    again = tokens_of(tmp_path, model, tokenizer, ROWS[:49], length=63)
    assert len(made) == 4 and again.digest == tokenize(ROWS[:49], tokenizer, 63, stop_ids(tokenizer)).digest
    template = model / "chat_template.jinja"
    template.write_text(template.read_text() + "{# another #}")
    tokens_of(tmp_path, model, tokenizer, ROWS[:49], length=63)
    assert len(made) == 5


def test_tokens_of_what_an_owner_did_stay_in_memory(
    tmp_path: pathlib.Path, model: pathlib.Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "a long passphrase for this test")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    tokens = tokens_of(tmp_path / "data", model, tokenizer, [row(1), row(2, "interactions")])
    assert len(tokens) == 2 and not tokens.is_mapped
    assert not (tmp_path / "data" / "tokens").exists()


def test_no_rows_say_so(tmp_path: pathlib.Path, model: pathlib.Path, tokenizer: Any) -> None:
    with pytest.raises(PreflightError, match="no rows to train on"):
        tokens_of(tmp_path, model, tokenizer, [])
    assert list((tmp_path / "tokens").iterdir()) == []
