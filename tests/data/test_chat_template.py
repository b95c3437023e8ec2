from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from overseer_training.data.chat_template import ChatTemplate

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set head = '' %}{% endif %}{% for m in messages %}<{{ m['role'] }}>{{ head if loop.first else '' }}{{ m['content'] }}"
    "</>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)
LOOKS_INTO_CONTENT = (
    "{% for m in messages %}[{{ m['role'] }}{{ '!' if 'rm' in m['content'] else '' }}]{{ m['content'] }}{% endfor %}"
)
REPEATS = "{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}"


class Tokenizer:
    """Only the part that renders."""

    def __init__(self, template: str) -> None:
        self.template, self.calls = template, 0

    def apply_chat_template(self, messages: list[Any], *, add_generation_prompt: bool, tokenize: bool) -> str:
        self.calls += 1
        rendered, _ = render_jinja_template(
            [messages], chat_template=self.template, add_generation_prompt=add_generation_prompt
        )
        text: str = rendered[0]
        return text


@pytest.mark.parametrize("template", [CHATML, MERGES_SYSTEM, REPEATS])
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.booleans())
def test_texts_are_those_of_the_template(template: str, contents: list[str], add: bool) -> None:
    roles = ["system", *["user", "assistant"] * 3]
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    tokenizer = Tokenizer(template)
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=add, tokenize=False)
    chat = ChatTemplate(tokenizer)
    assert [chat.render(messages, add) for _ in range(3)] == [expected] * 3


def test_the_template_is_asked_rarely() -> None:
    tokenizer = Tokenizer(CHATML)
    chat = ChatTemplate(tokenizer)
    for number in range(1000):
        chat.render([{"role": "user", "content": f"request {number}"}], True)
    assert tokenizer.calls < 20


def test_a_template_that_looks_into_contents_is_found_out() -> None:
    tokenizer = Tokenizer(LOOKS_INTO_CONTENT)
    chat = ChatTemplate(tokenizer)
    texts = [chat.render([{"role": "user", "content": f"rm {number}"}], False) for number in range(5)]
    assert texts == [f"[user!]rm {number}" for number in range(5)]
