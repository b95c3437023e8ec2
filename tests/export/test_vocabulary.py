from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import pytest

from overseer_training.errors import ModelError
from overseer_training.export.vocabulary import read_vocabulary

STOP = ("<|im_end|>",)


def change_tokenizer(source: pathlib.Path, target: pathlib.Path, **changes: Any) -> pathlib.Path:
    shutil.copytree(source, target)
    data = json.loads((target / "tokenizer.json").read_text())
    (target / "tokenizer.json").write_text(json.dumps({**data, **changes}))
    return target


def test_tokenizer_without_digit_split_gets_another_pre_tokenizer(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A SmolLM2 that went through a GGUF has no split of digits: calling it smollm would give other prompt tokens."""
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    folder = change_tokenizer(llama_folder, tmp_path / "model", pre_tokenizer=step)
    assert read_vocabulary(llama_folder, 512, STOP).pre == "smollm"
    assert read_vocabulary(folder, 512, STOP).pre == "trillion"


@pytest.mark.parametrize(
    "step",
    [
        {"type": "Whitespace"},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}]},
    ],
)
def test_other_splits_are_refused(llama_folder: pathlib.Path, tmp_path: pathlib.Path, step: dict[str, Any]) -> None:
    folder = change_tokenizer(llama_folder, tmp_path / "model", pre_tokenizer=step)
    with pytest.raises(ModelError, match="convert_hf_to_gguf"):
        read_vocabulary(folder, 512, STOP)


def test_stop_token_that_is_not_one_token_is_refused(llama_folder: pathlib.Path) -> None:
    with pytest.raises(ModelError, match="never end"):
        read_vocabulary(llama_folder, 512, ("<|end|>",))


def test_embedding_that_is_too_small_is_refused(llama_folder: pathlib.Path) -> None:
    with pytest.raises(ModelError, match="100 embedding rows"):
        read_vocabulary(llama_folder, 100, STOP)


def test_sentencepiece_scores_follow_the_merges(gemma3_folder: pathlib.Path) -> None:
    vocabulary = read_vocabulary(gemma3_folder, 512, ("<end_of_turn>",))
    data = json.loads((gemma3_folder / "tokenizer.json").read_text())
    first, last = ("".join(data["model"]["merges"][rank]) for rank in (0, -1))
    assert vocabulary.model == "llama"
    assert vocabulary.scores[vocabulary.tokens.index(first)] > vocabulary.scores[vocabulary.tokens.index(last)]
    assert vocabulary.add_bos
    assert not vocabulary.add_space_prefix
    assert vocabulary.types[vocabulary.tokens.index("<0x0A>")] == 6
