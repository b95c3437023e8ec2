"""Ollama's templates are Go; the few constructs in them are carried out here by Jinja."""

from __future__ import annotations

import re
from typing import Any

import jinja2
import pytest

from overseer_training.errors import NotAvailableError
from overseer_training.export.ollama_file import CHATML_TEMPLATE, GEMMA_TEMPLATE, TEMPLATES, ollama_settings
from overseer_training.models import custom, fetch

JINJA_OF = {
    "range .Messages": "for m in messages",
    'if eq .Role "system"': "if m.role == 'system'",
    'if eq .Role "assistant"': "if m.role == 'assistant'",
    'if eq .Role "user"': "if m.role == 'user'",
    "if $system": "if ns.system",
    "else": "else",
    '$system := ""': "set ns.system = ''",
    '$system = ""': "set ns.system = ''",
    "$system = .Content": "set ns.system = m.content",
    ".Role": "m.role",
    ".Content": "m.content",
    "$system": "ns.system",
}
TURNS = [
    [("system", "Linux shell."), ("user", "list files")],
    [("user", "no system"), ("assistant", "ls -l"), ("user", "again")],
    [
        ("system", "macOS shell."),
        ("user", " two  spaces\n"),
        ("assistant", "ls\n"),
        ("user", "{{ .Role }}"),
        ("assistant", ""),
    ],
]
CONVERSATIONS = [[{"role": role, "content": content} for role, content in turns] for turns in TURNS]


def carry_out(template: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of `template`; an unknown construct is a KeyError."""
    opened: list[str] = []

    def translate(match: re.Match[str]) -> str:
        inner = match.group(1)
        if inner == "end":
            return f"{{% end{opened.pop()} %}}"
        if inner.startswith(("range", "if")):
            opened.append("for" if inner.startswith("range") else "if")
        jinja = JINJA_OF[inner]
        is_value = jinja in ("m.role", "m.content", "ns.system")
        return f"{{{{ {jinja} }}}}" if is_value else f"{{% {jinja} %}}"

    text = "{% set ns = namespace() %}" + re.sub(r"\{\{ (.*?) \}\}", translate, template)
    return jinja2.Environment(keep_trailing_newline=True).from_string(text).render(messages=messages)


class Tokenizer:
    """What `ollama_settings` asks of a tokenizer."""

    bos_token, bos_token_id = "<bos>", 2

    def __init__(self, template: str, *, adds_bos: bool) -> None:
        self._template, self._adds_bos = jinja2.Environment().from_string(template), adds_bos

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return self._template.render(messages=messages, bos_token=self.bos_token, add_generation_prompt=True)

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [self.bos_token_id, 7] if self._adds_bos else [7]}


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_go_template_renders_as_its_python_twin(template: str, messages: list[dict[str, str]]) -> None:
    assert carry_out(template, messages) == TEMPLATES[template](messages)


@pytest.mark.parametrize(
    ("trained_with", "adds_bos", "expected"),
    [(custom.CHATML_TEMPLATE, False, CHATML_TEMPLATE), (fetch.GEMMA_TEMPLATE, True, GEMMA_TEMPLATE)],
)
def test_template_of_training_is_found_and_renders_the_same(trained_with: str, adds_bos: bool, expected: str) -> None:
    tokenizer = Tokenizer(trained_with, adds_bos=adds_bos)
    settings = ollama_settings(tokenizer, "Linux shell.", ["<stop>"])
    assert settings.template == expected
    for messages in CONVERSATIONS:
        prompt = tokenizer.apply_chat_template(messages).removeprefix("<bos>" if adds_bos else "")
        assert carry_out(settings.template, messages) == prompt


def test_begin_token_that_ollama_would_not_add_is_refused() -> None:
    with pytest.raises(NotAvailableError, match="by hand"):
        ollama_settings(Tokenizer(fetch.GEMMA_TEMPLATE, adds_bos=False), "", [])


def test_template_that_drops_blanks_is_refused() -> None:
    trimmed = custom.CHATML_TEMPLATE.replace("message['content']", "(message['content'] | trim)")
    with pytest.raises(NotAvailableError, match="by hand"):
        ollama_settings(Tokenizer(trimmed, adds_bos=False), "", [])


def test_prompt_that_would_end_its_quotes_is_refused() -> None:
    with pytest.raises(NotAvailableError, match="cannot be quoted"):
        ollama_settings(Tokenizer(custom.CHATML_TEMPLATE, adds_bos=False), 'say """', [])
