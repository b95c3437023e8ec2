"""What Ollama needs beside the weights, so that it answers as the trained model does: template, system prompt, settings.

Takes the tokenizer with the chat template of training; gives an `OllamaSettings`, and the Modelfile with the same in it.
Ollama's templates are Go. There is one here for each of the chat templates that this project trains with; one that
renders other prompt tokens than training is worse than none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from overseer_training.errors import NotAvailableError

Messages = Sequence[Mapping[str, str]]
# Ollama puts the system prompt in front of .Messages unless the request has a system message of its own, and adds the
# begin-of-text token where the GGUF says so.
CHATML_TEMPLATE = """{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
GEMMA_TEMPLATE = """{{ $system := "" }}{{ range .Messages }}{{ if eq .Role "system" }}{{ $system = .Content }}{{ else }}\
<start_of_turn>{{ if eq .Role "assistant" }}model{{ else }}user{{ end }}
{{ if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}{{ end }}{{ .Content }}<end_of_turn>
{{ end }}{{ end }}<start_of_turn>model
"""
PROBES: tuple[Messages, ...] = (
    (
        {"role": "system", "content": "S. Say it."},
        {"role": "user", "content": " two  spaces\n"},
        {"role": "assistant", "content": "ls -l"},
        {"role": "user", "content": "Again?"},
    ),
    ({"role": "system", "content": "S."}, {"role": "user", "content": "list files"}),
)


@dataclasses.dataclass(frozen=True)
class OllamaSettings:
    """What a model in Ollama has beside its weights; `parameters` by Ollama's names."""

    template: str
    system: str
    parameters: dict[str, Any]

    def modelfile(self, weights_name: str) -> str:
        """The text of a Modelfile for the GGUF `weights_name` in the same folder."""
        values = [
            (name, value)
            for name, given in self.parameters.items()
            for value in (given if isinstance(given, list) else [given])
        ]
        lines = [
            f'PARAMETER {name} "{value}"\n' if name == "stop" else f"PARAMETER {name} {value}\n"
            for name, value in values
        ]
        return f'FROM ./{weights_name}\nTEMPLATE """{self.template}"""\nSYSTEM """{self.system}"""\n{"".join(lines)}'


def render_chatml(messages: Messages) -> str:
    """What `CHATML_TEMPLATE` renders for `messages`."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return f"{turns}<|im_start|>assistant\n"


def render_gemma(messages: Messages) -> str:
    """What `GEMMA_TEMPLATE` renders for `messages`: Gemma has no system turn, its text opens the next one of the user."""
    text, system = "", ""
    for message in messages:
        if message["role"] == "system":
            system = message["content"]
            continue
        opening = ""
        if message["role"] == "user":
            opening, system = f"{system}\n\n" if system else "", ""
        role = "model" if message["role"] == "assistant" else "user"
        text += f"<start_of_turn>{role}\n{opening}{message['content']}<end_of_turn>\n"
    return f"{text}<start_of_turn>model\n"


TEMPLATES: dict[str, Callable[[Messages], str]] = {CHATML_TEMPLATE: render_chatml, GEMMA_TEMPLATE: render_gemma}


def ollama_settings(tokenizer: Any, system_prompt: str, stop_tokens: Sequence[str]) -> OllamaSettings:
    """The settings with which Ollama renders the prompts of training and decodes greedily.

    Args:
        tokenizer: a transformers tokenizer with the chat template of training.
        system_prompt: what a request without a system message is given.

    Raises:
        NotAvailableError: no template here renders as the tokenizer's does, or the prompt cannot be quoted in a Modelfile.
    """
    rendered = [
        tokenizer.apply_chat_template(list(probe), add_generation_prompt=True, tokenize=False) for probe in PROBES
    ]
    bos = tokenizer.bos_token
    if bos and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id:
        rendered = [text.removeprefix(bos) for text in rendered]
    template = next((go for go, render in TEMPLATES.items() if [render(probe) for probe in PROBES] == rendered), None)
    if template is None:
        raise NotAvailableError(
            "There is no Ollama template for the chat template of this model; there are those of ChatML and of Gemma's "
            "turns. Write a Modelfile with its TEMPLATE by hand."
        )
    if '"""' in system_prompt:
        raise NotAvailableError('A system prompt with """ cannot be quoted in a Modelfile. Change the prompt.')
    # Ollama's own defaults are a temperature of 0.8 and a repeat penalty of 1.1: both change commands.
    return OllamaSettings(template, system_prompt, {"stop": list(stop_tokens), "temperature": 0, "repeat_penalty": 1.0})
