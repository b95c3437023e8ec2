"""Rows become ids and labels: only answers have labels, and what would teach the wrong thing is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from overseer_training.data.tokenize import IGNORED, TokenSet, tokenize
from overseer_training.errors import PreflightError
from overseer_training.prompts import EXPLAIN_REQUEST, with_system
from overseer_training.records import Example, Turn

# As models/custom.py has them; importing it would load torch.
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXT = [
    "You are Overseer. Answer with one shell command for Linux.",
    "find . -name '*.py'",
    "list python files",
    "system user assistant",
]


@pytest.fixture(scope="module")
def tokenizer_with() -> Callable[[str], Any]:
    """A byte-level tokenizer with this chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
        ),
    )

    def make(template: str) -> Any:
        fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
        fast.chat_template = template
        return fast

    return make


@pytest.fixture
def tokenizer(tokenizer_with: Callable[[str], Any]) -> Any:
    return tokenizer_with(CHATML)


def example(*contents: str, identity: str = "row-1") -> Example:
    roles = ("user", "assistant") * 2
    turns = tuple(Turn(role, content) for role, content in zip(roles, contents, strict=False))
    return Example(identity, "family", "command", turns, "linux", "corpus")


ONE = example("list python files", "find . -name '*.py'")
TWO = example("list python files", "find . -name '*.py'", EXPLAIN_REQUEST, "It walks.")


def labelled(tokens: TokenSet, tokenizer: Any) -> str:
    return str(tokenizer.decode([label for label in tokens.labels if label != IGNORED]))


def stop(tokenizer: Any) -> list[int]:
    return [tokenizer.eos_token_id]


def test_only_the_answer_and_its_end_have_labels(tokenizer: Any) -> None:
    tokens = tokenize([ONE], tokenizer, 256, stop(tokenizer))
    assert labelled(tokens, tokenizer) == "find . -name '*.py'<|im_end|>"
    assert tokens.labels[-1] == tokenizer.eos_token_id
    marked = tokens.labels != IGNORED
    assert (tokens.labels[marked] == tokens.ids[marked]).all()
    assert tokens.answer_tokens == marked.sum()


def test_training_sees_the_prompt_tokens_of_answering(tokenizer: Any) -> None:
    tokens = tokenize([ONE], tokenizer, 256, stop(tokenizer))
    prompt = tokenizer.apply_chat_template(with_system(ONE.turns[:1]), add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    assert tokens.ids[: len(prompt)].tolist() == prompt
    assert (tokens.labels[: len(prompt)] == IGNORED).all() and tokens.labels[len(prompt)] != IGNORED


def test_every_answer_of_a_dialogue_has_labels(tokenizer: Any) -> None:
    tokens = tokenize([TWO], tokenizer, 256, stop(tokenizer))
    assert labelled(tokens, tokenizer) == "find . -name '*.py'<|im_end|>It walks.<|im_end|>"


def test_rows_lie_one_after_another(tokenizer: Any) -> None:
    both = tokenize([ONE, TWO], tokenizer, 256, stop(tokenizer))
    alone = [tokenize([row], tokenizer, 256, stop(tokenizer)) for row in (ONE, TWO)]
    assert len(both) == 2
    assert both.lengths.tolist() == [len(tokens.ids) for tokens in alone]
    assert both.ids.tolist() == [*alone[0].ids, *alone[1].ids]
    assert both.starts.tolist() == [0, len(alone[0].ids), len(both.ids)]


def test_a_row_that_is_too_long_is_set_aside_whole(tokenizer: Any) -> None:
    length = int(tokenize([ONE], tokenizer, 256, stop(tokenizer)).lengths[0])
    long = example("list " * 50, "ls", identity="long")
    tokens = tokenize([ONE, long], tokenizer, length, stop(tokenizer))
    assert (len(tokens), tokens.too_long) == (1, 1)


def test_when_every_row_is_too_long_it_says_which_flag(tokenizer: Any) -> None:
    with pytest.raises(PreflightError, match="all 2 rows are longer than 16 tokens; raise --sequence-length"):
        tokenize([ONE, TWO], tokenizer, 16, stop(tokenizer))
    assert len(tokenize([], tokenizer, 32, stop(tokenizer))) == 0


def test_a_template_without_an_end_of_turn_is_refused(tokenizer_with: Callable[[str], Any]) -> None:
    tokenizer = tokenizer_with(CHATML.replace("<|im_end|>", ""))
    with pytest.raises(PreflightError, match="row row-1: no end-of-turn token among its labels"):
        tokenize([ONE], tokenizer, 256, stop(tokenizer))


def test_an_end_of_turn_that_nothing_stops_at_is_refused(tokenizer: Any) -> None:
    with pytest.raises(PreflightError, match="no end-of-turn token"):
        tokenize([ONE], tokenizer, 256, [tokenizer.pad_token_id])


def test_a_template_that_answers_under_another_opening_is_refused(tokenizer_with: Callable[[str], Any]) -> None:
    tokenizer = tokenizer_with(
        CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>' }}")
    )
    with pytest.raises(PreflightError, match="renders other prompt tokens in training than when answering"):
        tokenize([ONE], tokenizer, 256, stop(tokenizer))


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer_with: Callable[[str], Any]) -> None:
    tokenizer = tokenizer_with("{{ messages | length }}" + CHATML)
    with pytest.raises(PreflightError, match="adds turns at the end only"):
        tokenize([TWO], tokenizer, 256, stop(tokenizer))


def test_a_row_without_an_answer_is_refused(tokenizer: Any) -> None:
    with pytest.raises(PreflightError, match="it has no labelled token"):
        tokenize([example("list python files")], tokenizer, 256, stop(tokenizer))


def test_what_a_template_puts_behind_the_end_is_not_learned(tokenizer_with: Callable[[str], Any]) -> None:
    tokenizer = tokenizer_with(CHATML.replace("<|im_end|>\n' }}", "<|im_end|>\nnoise\n' }}"))
    tokens = tokenize([TWO], tokenizer, 256, stop(tokenizer))
    assert "noise" not in labelled(tokens, tokenizer)
    assert tokens.ids[-1] == tokenizer.eos_token_id
