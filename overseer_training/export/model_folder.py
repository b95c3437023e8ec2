"""What training left: the description of a model folder, read and checked before any weight is loaded.

Takes a folder with full weights or an adapter (README.md lists the files); gives a `ModelFolder`. Loads no weights and
imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from overseer_training.errors import ModelError

WEIGHTS_NAME = "model.safetensors"
WEIGHTS_INDEX_NAME = "model.safetensors.index.json"
ADAPTER_CONFIG_NAME = "adapter_config.json"
ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
DESCRIPTION_NAME = "overseer.json"
DESCRIPTION_FORMAT = 1
TEMPLATE_NAME = "chat_template.jinja"
# Copied as they are, so that an export has the bytes that training used.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", TEMPLATE_NAME, "special_tokens_map.json")


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A model folder whose description has been read.

    Attributes:
        path: the folder.
        weights_path: the folder of the full weights: `path` itself, or the base that the adapter was trained on.
        is_adapter: `path` holds a PEFT adapter instead of full weights.
        config: config.json of `weights_path`.
        description: overseer.json of `path`.
    """

    path: pathlib.Path
    weights_path: pathlib.Path
    is_adapter: bool
    config: dict[str, Any]
    description: dict[str, Any]

    @property
    def architecture(self) -> str:
        names = self.config.get("architectures") or ["unknown"]
        return str(names[0])

    @property
    def base_model(self) -> str:
        return str(self.description.get("base_model", "unknown"))

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        return tuple(self.description.get("stop_tokens", ()))

    @property
    def chat_template(self) -> str:
        """The Jinja template that training rendered prompts with.

        Raises:
            ModelError: the folder has none; an export without one is the usual cause of gibberish in other programs.
        """
        path = self.path / TEMPLATE_NAME
        if path.is_file():
            return path.read_text(encoding="utf-8")
        template = read_json(self.path / "tokenizer_config.json").get("chat_template")
        if not isinstance(template, str):
            raise ModelError(f"{self.path} has no {TEMPLATE_NAME}. Copy the chat template that training used into it.")
        return template

    def weight_files(self) -> list[pathlib.Path]:
        """The safetensors files of the full weights, in a fixed order."""
        index = self.weights_path / WEIGHTS_INDEX_NAME
        names = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else [WEIGHTS_NAME]
        files = [self.weights_path / name for name in names]
        for file in files:
            if not file.is_file():
                raise ModelError(
                    f"Weights {file} are missing. Only safetensors files are read; train or download again."
                )
        return files


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object from a file of the model folder.

    Raises:
        ModelError: the file is missing, is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing. Point to a complete model folder, such as runs/latest/model.") from error
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}). Train or copy the model folder again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object. Train or copy the model folder again.")
    return value


def read_model_folder(folder: pathlib.Path) -> ModelFolder:
    """Read and check the description of a model folder.

    Raises:
        ModelError: a file is missing or damaged, the format is unknown, or the base of an adapter is not there.
    """
    description = read_json(folder / DESCRIPTION_NAME)
    found = description.get("format")
    if found != DESCRIPTION_FORMAT:
        raise ModelError(f"{folder / DESCRIPTION_NAME} has format {found}; this version reads {DESCRIPTION_FORMAT}.")
    is_adapter = (folder / ADAPTER_CONFIG_NAME).is_file()
    weights_path = folder
    if is_adapter:
        weights_path = pathlib.Path(str(description.get("base_path", "")))
        if not (folder / ADAPTER_WEIGHTS_NAME).is_file():
            raise ModelError(f"Adapter {folder} has no {ADAPTER_WEIGHTS_NAME}. Train again or copy the whole folder.")
        if not (weights_path / "config.json").is_file():
            raise ModelError(
                f"Adapter {folder} needs its base weights in {weights_path}, which has no config.json. "
                f"Set base_path in {DESCRIPTION_NAME} to the folder of {description.get('base_model')}."
            )
    model = ModelFolder(folder, weights_path, is_adapter, read_json(weights_path / "config.json"), description)
    model.weight_files()
    return model
