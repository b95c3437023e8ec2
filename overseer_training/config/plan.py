"""The frozen plan of one run: every value with its origin. Nothing changes it after it was resolved."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from overseer_training.config.schema import BY_NAME
from overseer_training.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Values that decide what a run does; limits are fractions, lengths are tokens, rates are per step.

    A value that was added later has the default with which older runs go on.

    Attributes:
        learning_rate: the peak rate that was asked for; for all weights of a model 2,048 wide unless a flag gave it.
        effective_learning_rate: what the optimizer gets, after model and method.
        train_embeddings: whether the embeddings of tokens, at input and output, learn too; adapters leave them alone.
        start_from: folder of the run whose model learns on; empty where training starts from the base model.
        world_size: processes that share each step's examples.
        gate: limits that `evaluation.checks.Thresholds` has; none where it is empty.
        origins: value name -> where it came from.
    """

    profile: str
    model_type: str
    base_model: str
    method: str
    device: str
    precision: str
    micro_batch_size: int
    gradient_accumulation_steps: int
    sequence_length: int
    learning_rate: float
    effective_learning_rate: float
    epochs: int
    max_steps: int | None
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    save_steps: int
    eval_steps: int
    early_stopping_patience: int
    ram_limit: float
    gpu_limit: float
    seed: int
    time_budget_seconds: float | None
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    macos_share: float
    explanation_share: float
    augmented_copies: int
    variant_share: float = 0.0
    composed_rows: int = 0
    misspelt_share: float = 0.0
    prediction_rows: int = 0
    least_skill_share: float = 0.0
    safety_share: float = 0.0
    kaggle_datasets: Sequence[Mapping[str, Any]] = ()
    continuous_learning: bool = False
    personal_share: float = 0.0
    machine_share: float = 0.0
    replay_share: float = 0.0
    start_from: str = ""
    self_improvement_rounds: int = 0
    self_improvement_requests: int = 0
    self_improvement_samples: int = 0
    teachers: Sequence[str] = ()
    hybrid: bool = False
    teacher_requests: int = 0
    teacher_seconds: float | None = None
    sources: Sequence[str] = ()
    gate: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    world_size: int = 1
    train_embeddings: bool = True
    test_tasks: int
    custom_model: Mapping[str, Any]
    use_existing_data: bool
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def effective_batch_size(self) -> int:
        """Examples that one optimizer step learns from."""
        return self.micro_batch_size * self.gradient_accumulation_steps

    def values(self) -> dict[str, dict[str, Any]]:
        """name -> {"value", "origin"}, in the order of the fields above."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in ("origins", "warnings")]
        return {
            name: {"value": getattr(self, name), "origin": self.origins.get(name, "training_config.py")}
            for name in names
        }

    def with_values(self, changes: Mapping[str, tuple[Any, str]]) -> Plan:
        """A plan with some values replaced; `changes` maps name -> (value, origin)."""
        origins = {**self.origins, **{name: origin for name, (_, origin) in changes.items()}}
        return dataclasses.replace(self, origins=origins, **{name: value for name, (value, _) in changes.items()})

    def as_json(self, forecast: Mapping[str, Any]) -> str:
        document = {"values": self.values(), "forecast": dict(forecast), "warnings": list(self.warnings)}
        return json.dumps(document, indent=2) + "\n"


def read_plan(path: pathlib.Path) -> Plan:
    """The plan that `Plan.as_json` wrote.

    Raises:
        DataError: the file is missing or is not a plan of this version.
    """
    try:
        document = json.loads(path.read_text())
        values = {name: entry["value"] for name, entry in document["values"].items()}
        origins = {name: entry["origin"] for name, entry in document["values"].items()}
        return Plan(**values, origins=origins, warnings=tuple(document.get("warnings", ())))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a readable plan of this version ({error}); start a new run") from error


def format_plan(plan: Plan, forecast: Mapping[str, Any]) -> str:
    """The plan as lines for people: name, value, unit, origin."""
    lines = []
    for name, entry in plan.values().items():
        value, shown = entry["value"], _as_text(entry["value"])
        if name == "custom_model" and plan.model_type != "custom":
            continue
        unit = BY_NAME[name].unit if name in BY_NAME and value is not None and not isinstance(value, list) else ""
        lines.append(f"  {name:<28} {shown + (' ' + unit if unit else ''):<26} {entry['origin']}")
    lines += [f"  {name.replace('_', ' ')}: {value}" for name, value in forecast.items()]
    lines += [f"  note: {warning}" for warning in plan.warnings]
    return "\n".join(lines)


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item.get("slug", item) if isinstance(item, Mapping) else item) for item in value) or "none"
    return str(value)
