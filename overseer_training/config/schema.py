"""The values of a plan: their names, types, bounds, flags, and where training_config.py holds them.

One table drives parsing, validation, `--help` and the printed plan. Adding a value is adding a row here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from overseer_training.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Field:
    """One value of the plan.

    Attributes:
        name: stable; what plan.json calls it.
        group, key: where training_config.py holds it.
        parse: text or configured value -> value; raises ValueError with what is expected.
        unit: for people.
        flag: on the command line; empty when it has none.
        may_change_on_resume: whether a resumed run stays exact when this value changes.
    """

    name: str
    group: str
    key: str
    parse: Callable[[Any], Any]
    help: str
    unit: str = ""
    flag: str = ""
    may_change_on_resume: bool = False


def whole(minimum: int, maximum: int = 10**9) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError(f"a whole number from {minimum} to {maximum}")
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise ValueError(f"a whole number from {minimum} to {maximum}") from None
        if not minimum <= number <= maximum:
            raise ValueError(f"a whole number from {minimum} to {maximum}")
        return number

    return parse


def real(minimum: float, maximum: float, *, above: bool = False) -> Callable[[Any], float]:
    wanted = f"a number {'above' if above else 'from'} {minimum:g} {'up to' if above else 'to'} {maximum:g}"

    def parse(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(wanted) from None
        if isinstance(value, bool) or not minimum <= number <= maximum or (above and number == minimum):
            raise ValueError(wanted)
        return number

    return parse


def fraction(value: Any) -> float:
    """A share from 0 to 1; `70%` is 0.7."""
    try:
        if isinstance(value, str) and value.endswith("%"):
            return real(0, 100)(value[:-1]) / 100
        return real(0, 1)(value)
    except ValueError:
        raise ValueError("a share from 0 to 1, or from 0% to 100%") from None


def share_or_auto(value: Any) -> float | str:
    """A share, or `auto`: what suits this machine."""
    return "auto" if value == "auto" else fraction(value)


def switch_or_auto(value: Any) -> bool | str:
    """true, false, or `auto`: what suits the model."""
    if isinstance(value, bool):
        return value
    known: dict[str, bool | str] = {"true": True, "false": False, "auto": "auto"}
    if not isinstance(value, str) or value not in known:
        raise ValueError("true, false or auto")
    return known[value]


def choice(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return str(value)

    return parse


def text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value in (None, "none") else parse(value)


def names(value: Any) -> list[str]:
    """`a,b` or ["a", "b"]; an empty text is none."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("names separated by commas")
    return [part.strip() for part in parts if part.strip()]


DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def duration(value: Any) -> float:
    """Seconds of `90`, `90s`, `20m`, `1h30m`."""
    match = DURATION.fullmatch(str(value).strip().replace(" ", ""))
    if isinstance(value, bool) or match is None or not any(match.groups()):
        raise ValueError("a duration such as 90s, 20m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if not 1 <= total <= 30 * 86400:
        raise ValueError("a duration from 1s to 720h")
    return total


FIELDS: tuple[Field, ...] = (
    Field("model_type", "ai_config", "model_type", choice("gemma3n", "custom", "hybrid"), "gemma3n fine-tunes, custom starts your own architecture, hybrid adds teachers", flag="--model-type"),
    Field("base_model", "ai_config", "base_model", text, "catalog name, hub id, folder, file.gguf, ollama:NAME or auto", flag="--base-model"),
    Field("method", "ai_config", "method", choice("auto", "full", "lora", "dora"), "which weights learn", flag="--method"),
    Field("train_embeddings", "ai_config", "train_embeddings", switch_or_auto, "with --method full, whether the embeddings of tokens learn too; auto: those of a model that starts from random weights", flag="--train-embeddings"),
    Field("device", "ai_config", "device", choice("auto", "cpu", "cuda", "mps"), "where it trains", flag="--device", may_change_on_resume=True),
    Field("precision", "ai_config", "precision", choice("auto", "fp32", "bf16"), "number format of the matrix products; updates are fp32", flag="--precision"),
    Field("micro_batch_size", "ai_config", "batch_size", whole(1, 4096), "rows of full length held in memory at once", "rows", "--micro-batch-size", True),
    Field("gradient_accumulation_steps", "ai_config", "gradient_accumulation", whole(1, 65536), "micro-batches that make one step", flag="--gradient-accumulation-steps"),
    Field("sequence_length", "ai_config", "sequence_length", whole(32, 131072), "longest row; longer ones are set aside", "tokens", "--sequence-length"),
    Field("learning_rate", "ai_config", "learning_rate", real(0, 1, above=True), "peak rate; a flag is taken as it is, a configured one is fitted to model and method", flag="--learning-rate"),
    Field("ram_limit", "ai_config", "memory_threshold", fraction, "share of RAM used by everything above which training stops", "fraction", "--ram-limit", True),
    Field("gpu_limit", "ai_config", "memory_threshold", fraction, "share of device memory above which training stops", "fraction", "--gpu-limit", True),
    Field("epochs", "training_params", "epochs", whole(1, 10000), "passes over the training rows", flag="--epochs"),
    Field("max_steps", "training_params", "max_steps", optional(whole(1)), "end after so many steps", "steps", "--max-steps"),
    Field("time_budget_seconds", "training_params", "time_budget", optional(duration), "fit the number of steps to this time, e.g. 20m", "seconds", "--time-budget"),
    Field("warmup_steps", "training_params", "warmup_steps", whole(0), "steps until the peak learning rate", "steps", "--warmup-steps"),
    Field("weight_decay", "training_params", "weight_decay", real(0, 1), "decoupled weight decay", flag="--weight-decay"),
    Field("max_grad_norm", "training_params", "max_grad_norm", real(0, 1e6, above=True), "gradients are scaled down to this norm", flag="--max-grad-norm"),
    Field("save_steps", "training_params", "save_steps", whole(1), "steps between checkpoints", "steps", "--save-steps", True),
    Field("eval_steps", "training_params", "eval_steps", whole(1), "steps between validations", "steps", "--eval-steps", True),
    Field("early_stopping_patience", "training_params", "early_stopping_patience", whole(1), "validations without improvement before it stops", "validations", "--early-stopping-patience"),
    Field("self_improvement_rounds", "training_params", "self_improvement_rounds", whole(0, 100), "after training, learn from own answers to training requests that did the right thing, so many times", "rounds", "--self-improve"),
    Field("self_improvement_requests", "training_params", "self_improvement_requests", whole(1, 100000), "training requests that a round of --self-improve asks", "requests", "--self-improve-requests"),
    Field("self_improvement_samples", "training_params", "self_improvement_samples", whole(1, 64), "answers to each request of --self-improve", "answers", "--self-improve-samples"),
    Field("seed", "training_params", "seed", whole(0, 2**32 - 1), "of the order of rows, augmentation and new weights", flag="--seed"),
    Field("lora_rank", "lora_config", "rank", whole(1, 1024), "rank of the adapters", flag="--lora-rank"),
    Field("lora_alpha", "lora_config", "alpha", real(0, 4096, above=True), "scale of the adapters, alpha / rank", flag="--lora-alpha"),
    Field("lora_dropout", "lora_config", "dropout", real(0, 0.9), "dropout before the adapters", flag="--lora-dropout"),
    Field("macos_share", "data_config", "macos_share", share_or_auto, "commands for macOS instead of Linux; auto: all on a Mac, none elsewhere", "fraction", "--macos-share"),
    Field("variant_share", "data_config", "variant_share", fraction, "training requests that come again at the current directory or with an ending, where they suit", "fraction", "--variant-share"),
    Field("composed_rows", "data_config", "composed_rows", whole(0), "training requests composed of written parts: what, where, which conditions, what to do", "rows", "--composed-rows"),
    Field("misspelt_share", "data_config", "misspelt_share", fraction, "augmented copies and composed requests with a slip of the finger", "fraction", "--misspelt-share"),
    Field("prediction_rows", "data_config", "prediction_rows", whole(0), "training questions about the telemetry of simulated machines", "rows", "--prediction-rows"),
    Field("least_skill_share", "data_config", "least_skill_share", real(0, 0.1), "training rows of each skill at least, where rows come again, at most four times", "fraction", "--least-skill-share"),
    Field("safety_share", "data_config", "safety_share", real(0, 0.3), "training rows about dangerous requests at least, in the same way", "fraction", "--safety-share"),
    Field("personal_share", "data_config", "personal_share", real(0, 0.9, above=True), "training rows from your interactions, with --continuous-learning", "fraction", "--personal-share"),
    Field("machine_share", "data_config", "machine_share", real(0, 0.9), "of the rows that are yours, questions about what this machine did, where `overseer telemetry` has recorded it, with --continuous-learning", "fraction", "--machine-share"),
    Field("replay_share", "data_config", "replay_share", real(0, 0.95), "rows of the corpus beside those that are new, where a trained model goes on learning", "fraction", "--replay-share"),
    Field("explanation_share", "data_config", "explanation_share", fraction, "rows that go on with an explanation", "fraction", "--explanation-share"),
    Field("augmented_copies", "data_config", "augmented_copies", whole(0, 100), "further copies of each row with other names and numbers", flag="--augmented-copies"),
    Field("sources", "data_config", "sources", names, "what else to learn from: tldr, history, manual and help (what this machine has of them), or files of requests and commands (JSON lines, CSV), separated by commas", flag="--sources"),
    Field("teachers", "llm_config", "teachers", names, "who teaches with --llm-integration: an Ollama model, gemini:MODEL, http://HOST:PORT#MODEL or FILE.gguf; separated by commas", "name,…", "--llm-model"),
    Field("teacher_requests", "llm_config", "requests", whole(1), "what teachers may be asked", "requests", "--teacher-requests"),
    Field("teacher_seconds", "llm_config", "time", optional(duration), "how long teachers may take, e.g. 20m", "seconds", "--teacher-time"),
    Field("test_tasks", "data_config", "test_tasks", whole(0, 100000), "commands that are run to score a model", flag="--test-tasks", may_change_on_resume=True),
)  # fmt: skip

BY_NAME = {field.name: field for field in FIELDS}
CUSTOM_MODEL_KEYS: dict[str, Callable[[Any], Any]] = {
    "vocabulary_size": whole(300, 262144),
    "hidden_size": whole(8, 16384),
    "intermediate_size": whole(8, 65536),
    "layers": whole(1, 256),
    "attention_heads": whole(1, 256),
    "key_value_heads": whole(1, 256),
    "checkpoint": optional(text),
}
GATE_KEYS: dict[str, Callable[[Any], Any]] = {
    "attack_success": optional(fraction),
    "harmful_share": optional(fraction),
    "bias_gap": optional(fraction),
    "noise_kept": optional(fraction),
    "export_parity": optional(fraction),
    "least_tasks": whole(1, 100000),
    "must_beat_baseline": names,
}
# Names of profile entries that are not keys of training_config.py's groups.
PROFILE_ONLY = ("ram_limit", "gpu_limit")
PROFILE_NAMES = ("mac", "resource-efficient", "cpu-only")


def parse_value(field: Field, value: Any, origin: str) -> Any:
    """`value` as `field` has it.

    Raises:
        UsageError: with the origin, what was found and what is expected.
    """
    try:
        return field.parse(value)
    except ValueError as error:
        raise UsageError(f"{origin}: {field.name} must be {error}, not {value!r}") from None
