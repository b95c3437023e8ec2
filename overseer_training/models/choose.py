"""Settles what `auto` means for base model and method on this machine, and forecasts memory. Imports no torch."""

from __future__ import annotations

import json
import pathlib
from typing import NamedTuple

from overseer_training.config.launch import find_launch
from overseer_training.config.machine import GIB, Machine, memory_used_bytes
from overseer_training.config.plan import Plan
from overseer_training.config.resolve import fit_learning_rate
from overseer_training.errors import UsageError
from overseer_training.models import catalog

LARGEST_FULL_PARAMETERS = 600_000_000  # chosen: beyond it full fine-tuning needs more memory than small machines have
# A usual step is one micro-batch then, which needs no sums of gradients; larger ones bring nothing on a CPU (docs/performance.md).
FASTEST_TOKENS = {"cpu": 4096}
PROCESS_BYTES = 700 * 1024**2  # estimated: python, torch and transformers before a model is loaded
ACTIVATIONS = 750  # numbers a token and unit of width, with the holes that freed blocks leave: over twice what one step keeps (measured)
ADAPTER_SHARE = 0.035  # estimated: weights of rank-32 adapters over those of the model


class Size(NamedTuple):
    """Numbers of a model.

    Attributes:
        parameters: all weights.
        width: of the hidden states.
        embeddings: those of the weights that are embeddings of tokens, at input and output; 0 where nobody knows.
    """

    parameters: int
    width: int
    embeddings: int


def forecast_memory_bytes(size: Size, plan: Plan) -> int:
    """Peak resident memory of a training run, predicted from sizes alone.

    Full fine-tuning holds 16-bit weights and gradients and fp32 masters, gradients and two Adam moments: 20 bytes a weight; 16
    where everything is fp32. Weights that do not learn are held once. Adapters hold the frozen weights and 16 bytes for each of theirs.
    Activations grow with the tokens held at once.
    """
    weight_bytes = 4 if plan.precision == "fp32" else 2
    if plan.method in ("lora", "dora"):
        weights = size.parameters * weight_bytes + int(size.parameters * ADAPTER_SHARE) * 16
    else:
        frozen = 0 if plan.train_embeddings else size.embeddings
        weights = (size.parameters - frozen) * (16 if plan.precision == "fp32" else 20) + frozen * weight_bytes
    tokens = tokens_at_once(plan)
    return PROCESS_BYTES + weights + tokens * size.width * ACTIVATIONS * weight_bytes


def tokens_at_once(plan: Plan) -> int:
    """Padded tokens of a micro-batch: what the plan promises at most, and no more than is of use on its device."""
    return min(plan.micro_batch_size * plan.sequence_length, FASTEST_TOKENS.get(plan.device, 1 << 30))


def settle(plan: Plan, machine: Machine) -> Plan:
    """`plan` with base model, method and effective learning rate decided, each with its reason."""
    if plan.model_type == "custom":
        width = int(plan.custom_model["hidden_size"])
        plan = plan.with_values(
            {"base_model": ("custom", "model_type custom"), "method": ("full", "model_type custom")}
        )
        return fit_learning_rate(plan, width, None)
    if plan.base_model == "auto":
        plan = plan.with_values({"base_model": _choose_base(plan, machine)})
    entry = catalog.find_entry(plan.base_model)
    parameters, width, _ = _size_of(entry) if entry else _read_size(plan.base_model)
    if plan.method == "auto":
        small = parameters <= LARGEST_FULL_PARAMETERS
        method, reason = (
            ("full", "small enough to train all weights") if small else ("lora", "too large to train all weights")
        )
        plan = plan.with_values({"method": (method, f"machine: {parameters / 1e6:.0f} M parameters, {reason}")})
    return fit_learning_rate(plan, width, entry.learning_rate_factor if entry else None)


def model_size(plan: Plan) -> Size:
    """Of the plan's model; a custom model's is computed from its dimensions."""
    if plan.model_type == "custom":
        d = plan.custom_model
        head = d["hidden_size"] // d["attention_heads"]
        layer = d["hidden_size"] * (2 * d["hidden_size"] + 2 * head * d["key_value_heads"] + 3 * d["intermediate_size"])
        embeddings = d["vocabulary_size"] * d["hidden_size"]
        return Size(embeddings + d["layers"] * layer, d["hidden_size"], embeddings)
    entry = catalog.find_entry(plan.base_model)
    return _size_of(entry) if entry else _read_size(plan.base_model)


def _size_of(entry: catalog.CatalogEntry) -> Size:
    return Size(entry.parameters, entry.width, entry.vocabulary * entry.width)


def _choose_base(plan: Plan, machine: Machine) -> tuple[str, str]:
    """(name, reason). Without a GPU a larger model learns less in the same time: of 270M and 135M parameters the latter (docs/results.md)."""
    if plan.device == "cpu":
        return catalog.EMBEDDED, "machine: no GPU; of the small models this one learns the most in the same time"
    room = (plan.ram_limit * machine.memory_bytes - memory_used_bytes()) / find_launch().local_world_size
    present = sorted(
        (entry for entry in catalog.ENTRIES if catalog.is_present(entry)), key=lambda entry: -entry.parameters
    )
    for entry in present:
        method = "full" if entry.parameters <= LARGEST_FULL_PARAMETERS else "lora"
        probe = plan.with_values({"method": (method, "")}) if plan.method == "auto" else plan
        if forecast_memory_bytes(_size_of(entry), probe) <= room:
            return entry.name, f"machine: the largest model present that fits in {room / GIB:.1f} GiB"
    reason = "no present model fits in memory" if present else "no model is present yet"
    return catalog.EMBEDDED, f"machine: {reason}; this one comes in a package"


def _read_size(name: str) -> Size:
    """From a local folder's config, else a guess that `forecast` marks by its method."""
    folder = pathlib.Path(name).expanduser()
    if not folder.is_dir():
        folder = catalog.hub_folder(name) or folder
    if folder.is_dir():
        try:
            config = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"--base-model {name}: {folder} has no readable config.json") from error
        config = config.get("text_config", config)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        wide = 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2
        width = int(config.get("hidden_size", 2048))
        tables = 1 if config.get("tie_word_embeddings", True) else 2
        return Size(size // wide, width, tables * int(config.get("vocab_size", 0)) * width)
    if folder.is_file():
        return Size(folder.stat().st_size * 2, 2048, 0)  # a GGUF file holds 4 to 8 bits a weight
    return Size(1_000_000_000, 2048, 0)
