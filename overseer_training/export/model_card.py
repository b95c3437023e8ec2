"""The README.md of an exported folder: what it is, how it was trained, what was measured, how to use it, its limits.

Takes what the run wrote (overseer.json, plan.json, eval.json) and the entries of the manifest; gives Markdown with nothing in
it that was not recorded: a missing figure is called not measured. Not covered: figures of other models.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from overseer_training.files import write_text
from overseer_training.models.catalog import find_entry

# Licences of bases, by a part of the name: the identifier on the Hugging Face hub and what people call it.
LICENCES = {
    "smollm": ("apache-2.0", "Apache-2.0"),
    "gemma": ("gemma", "Gemma Terms of Use (https://ai.google.dev/gemma/terms)"),
}
PLAN_ROWS = {
    "profile": "Profile",
    "method": "Method",
    "precision": "Precision",
    "learning_rate": "Learning rate (peak)",
    "epochs": "Epochs",
    "max_steps": "Optimizer steps, at most",
    "micro_batch_size": "Micro-batch, rows",
    "gradient_accumulation_steps": "Micro-batches per step",
    "sequence_length": "Sequence length, tokens",
    "weight_decay": "Weight decay",
    "max_grad_norm": "Gradient norm, at most",
    "seed": "Seed",
}
LIMITS = """\
- It proposes commands; it does not know your machine. Read a command before you run it: it can be wrong, and a wrong
  command can delete data.
- It was trained on short requests in English about a Unix shell. Other languages, long conversations and other topics
  are outside of what was trained and measured.
- It was trained with the system prompts above and the chat template in the files. With others its answers are not those
  that were measured.
- The figures hold for the test sets of the run. They say little about requests of another kind.
"""


def write_model_card(
    target: pathlib.Path,
    description: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    files: Sequence[Mapping[str, Any]],
    licence: str | None = None,
    failures: Sequence[str] = (),
) -> None:
    """Write the model card to `target`.

    Args:
        description: overseer.json of the trained model.
        plan: plan.json of the run, None where it is missing.
        evaluation: eval.json of the run, None where nothing was measured.
        files: entries of the manifest, with parity and accuracy where they were measured.
        licence: of the base; looked up by its name when None.
        failures: why the gate of the run failed, one line each; none where it passed.
    """
    base = str(description.get("base_model", "unknown"))
    file_names = [str(entry["path"]) for entry in files if entry["path"] != target.name]
    known = next(
        (names for part, names in LICENCES.items() if part in base.lower()), ("other", "see the base model's own page")
    )
    sections = [
        _front_matter(base, known[0]),
        f"# {base}, trained to answer with shell commands\n",
        (
            f"A language model that turns a request into a shell command, trained with Overseer Training from "
            f"**{base}**. Licence of the base: {licence or known[1]}; it applies to these weights too.\n"
        ),
        *([_warning(failures)] if failures else []),
        "## Files\n",
        "".join(f"- `{name}`\n" for name in file_names),
        "## How it was trained\n",
        _training_table(description, plan),
        "## What was measured\n",
        _figures_table(evaluation),
        _exported_figures(files),
        "## How to use it\n",
        _usage(description, file_names),
        "## Limits\n",
        LIMITS,
    ]
    write_text(target, "\n".join(sections))


def _front_matter(base: str, licence_id: str) -> str:
    # The hub accepts only names with an owner as base_model.
    base_line = f"base_model: {base}\n" if "/" in base else ""
    return f"---\nlicense: {licence_id}\n{base_line}pipeline_tag: text-generation\nlanguage: en\n---\n"


def _warning(failures: Sequence[str]) -> str:
    reasons = "".join(f"> - {why}\n" for why in failures)
    return f"> **This model did not pass the gate of its run.** Try it; do not rely on it.\n>\n{reasons}"


def _training_table(description: Mapping[str, Any], plan: Mapping[str, Any] | None) -> str:
    values = (plan or {}).get("values", {})
    known = {name: entry["value"] for name, entry in values.items() if isinstance(entry, Mapping) and "value" in entry}
    known.setdefault("method", description.get("method", "unknown"))
    rows = [(label, known[name]) for name, label in PLAN_ROWS.items() if known.get(name) is not None]
    table = "| Setting | Value |\n|---|---|\n" + "".join(f"| {label} | {value} |\n" for label, value in rows)
    return table if plan else f"{table}\nThe plan of the run was not found; nothing else is recorded.\n"


def _scores(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every score in eval.json with the path of names to it; a score is what has `n` and `value`."""
    if "n" in value and "value" in value:
        yield name, value
        return
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _scores(inner, f"{name} / {key}" if name else key)


def _figures_table(evaluation: Mapping[str, Any] | None) -> str:
    scores = list(_scores(evaluation or {}))
    if not scores:
        return "Nothing was measured in this run.\n"
    rows = []
    for name, score in scores:
        value, interval = score["value"], score.get("ci95")
        shown = "not scored" if value is None else f"{value:.3f}"
        between = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "unknown"
        baseline = (
            ", ".join(f"{key} {_number(number)}" for key, number in (score.get("baseline") or {}).items()) or "none"
        )
        rows.append(f"| {name} | {shown} | {between} | {score['n']} | {score.get('unscored', 0)} | {baseline} |\n")
    return "| Measure | Value | 95 % interval | n | Unscored | Baseline |\n|---|---|---|---|---|---|\n" + "".join(rows)


def _number(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("value")
    return f"{value:.3f}" if isinstance(value, int | float) else "unknown"


def _exported_figures(files: Sequence[Mapping[str, Any]]) -> str:
    """What llama.cpp makes of each GGUF file."""
    rows = []
    for entry in files:
        parity, accuracy = entry.get("parity") or {}, entry.get("accuracy") or {}
        if not parity.get("n") and not accuracy:
            continue
        same = f"{parity['equal']} of {parity['n']}" if parity.get("n") else "not measured"
        prompts = f"{parity['prompt_tokens_equal']} of {parity['n']}" if parity.get("n") else "not measured"
        score = accuracy.get("scores", {}).get("command_accuracy") or {}
        right = f"{score['value']:.3f} (n = {score['n']})" if score.get("value") is not None else "not measured"
        compared = accuracy.get("compared")
        changed = f"{accuracy['lost']} lost, {accuracy['gained']} gained of {compared}" if compared else "not measured"
        size = f"{entry['bytes'] / 1e6:.0f} MB"
        rows.append(f"| `{entry['path']}` | {size} | {prompts} | {same} | {right} | {changed} |\n")
    if not rows:
        return "Whether llama.cpp answers as the trained weights do was not measured for this export.\n"
    return (
        "Exported files in llama.cpp against the trained weights, greedy:\n\n"
        "| File | Size | Same prompt tokens | Same answer | Commands right | Beside the trained model |\n"
        "|---|---|---|---|---|---|\n" + "".join(rows)
    )


def _usage(description: Mapping[str, Any], file_names: Sequence[str]) -> str:
    prompts = dict(description.get("system_prompts", {}))
    stops = ", ".join(f"`{token}`" for token in description.get("stop_tokens", ())) or "the end-of-text token"
    parts = ["System prompts, one of which opens every conversation:\n"]
    parts.append("".join(f"- {platform}: `{text}`\n" for platform, text in prompts.items()) or "- none\n")
    parts.append(f"An answer ends with {stops}. Decode greedily (temperature 0).\n")
    if "model.gguf" in file_names:
        parts.append("llama.cpp:\n\n```sh\nllama-server -m model.gguf --jinja --temp 0\n```\n")
    if "Modelfile" in file_names:
        parts.append(
            'Ollama:\n\n```sh\nollama create overseer -f Modelfile\nollama run overseer "list open ports"\n```\n'
        )
    if any(name.startswith("safetensors/") for name in file_names):
        parts.append(_transformers_example(next(iter(prompts.values()), "")))
    if any(name.startswith("adapter/") for name in file_names):
        parts.append(_adapter_example(str(description.get("base_model", "unknown"))))
    return "\n".join(parts)


def _transformers_example(system_prompt: str) -> str:
    return f"""Transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("safetensors")
model = AutoModelForCausalLM.from_pretrained("safetensors")
messages = [
    {{"role": "system", "content": {system_prompt!r}}},
    {{"role": "user", "content": "list open ports"}},
]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**prompt, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```
"""


def _adapter_example(base: str) -> str:
    entry = find_entry(base)
    return f"""The adapter (it was measured on the weights of the base that it was trained on; others can differ):

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({(entry.hub_id if entry else base)!r}), "adapter")
```
"""
