"""A Modelfile, so that `ollama create overseer -f Modelfile` answers as the trained model does.

Takes the chat template, system prompt and stop tokens of a model folder; gives the text of a Modelfile. Knows ChatML
only: Ollama's templates are Go, and a template that renders other prompt tokens than training is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from overseer_training.errors import NotAvailableError

# Ollama puts SYSTEM in front of .Messages unless the request has a system message of its own.
CHATML_TEMPLATE = """{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
PROBE = (
    {"role": "system", "content": "S. Say it."},
    {"role": "user", "content": " two  spaces\n"},
    {"role": "assistant", "content": "ls -l"},
    {"role": "user", "content": "Again?"},
)


def render_chatml(messages: Sequence[dict[str, str]]) -> str:
    """The prompt that `CHATML_TEMPLATE` renders for `messages`."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return f"{turns}<|im_start|>assistant\n"


def modelfile_text(tokenizer: Any, weights_name: str, system_prompt: str, stop_tokens: Sequence[str]) -> str:
    """A Modelfile for the GGUF `weights_name` in the same folder.

    Args:
        tokenizer: a transformers tokenizer with the chat template of training.
        system_prompt: what a request without a system message is given.

    Raises:
        NotAvailableError: the chat template is not ChatML, or a text cannot be quoted in a Modelfile.
    """
    rendered = tokenizer.apply_chat_template(list(PROBE), add_generation_prompt=True, tokenize=False)
    if rendered != render_chatml(PROBE):
        raise NotAvailableError("A Modelfile is written for ChatML templates only. Write its TEMPLATE by hand.")
    if '"""' in system_prompt:
        raise NotAvailableError('A system prompt with """ cannot be quoted in a Modelfile. Change the prompt.')
    stops = "".join(f'PARAMETER stop "{token}"\n' for token in stop_tokens)
    # Ollama's own defaults are a temperature of 0.8 and a repeat penalty of 1.1: both change commands.
    return (
        f"FROM ./{weights_name}\n"
        f'TEMPLATE """{CHATML_TEMPLATE}"""\n'
        f'SYSTEM """{system_prompt}"""\n'
        f"{stops}"
        "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1.0\n"
    )
