"""The LoRA or DoRA adapter of a run as a folder that PEFT loads on the base model.

Takes the model folder of an adapter run; gives a copy without paths of this machine. Loads no weights.
"""

from __future__ import annotations

import pathlib
import shutil

from overseer_training.errors import NotAvailableError
from overseer_training.export.model_folder import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_WEIGHTS_NAME,
    DESCRIPTION_NAME,
    TOKENIZER_FILES,
    ModelFolder,
    read_json,
)
from overseer_training.files import staged_folder, write_json
from overseer_training.models.catalog import find_entry


def require_adapter(model: ModelFolder) -> None:
    """Raises NotAvailableError for a model whose weights were all trained."""
    if not model.is_adapter:
        raise NotAvailableError("This run trained all weights, so there is no adapter. Export safetensors instead.")


def write_adapter(model: ModelFolder, target: pathlib.Path) -> None:
    """Write adapter, tokenizer, chat template and overseer.json to `target`, which is complete or absent.

    Raises:
        NotAvailableError: all weights were trained.
    """
    require_adapter(model)
    entry = find_entry(model.base_model)
    base = entry.hub_id if entry else model.base_model
    with staged_folder(target) as staging:
        shutil.copyfile(model.path / ADAPTER_WEIGHTS_NAME, staging / ADAPTER_WEIGHTS_NAME)
        # Both files name a folder of this machine as the base.
        config = read_json(model.path / ADAPTER_CONFIG_NAME)
        write_json(staging / ADAPTER_CONFIG_NAME, {**config, "base_model_name_or_path": base})
        write_json(staging / DESCRIPTION_NAME, {**model.description, "base_path": ""})
        for name in TOKENIZER_FILES:
            if (model.path / name).is_file():
                shutil.copyfile(model.path / name, staging / name)
