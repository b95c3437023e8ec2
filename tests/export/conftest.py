"""Tiny models on disk, shared by the tests of this room."""

from __future__ import annotations

import pathlib

import pytest

from overseer_training.prompts import SYSTEM_PROMPTS

from .tiny_models import build_adapter, build_gemma3, build_llama


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Full weights of a tiny Llama with tied embeddings and a SmolLM2-like tokenizer; read only."""
    return build_llama(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="session")
def gemma3_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Full weights of a tiny Gemma 3 with a Gemma-like tokenizer; read only."""
    return build_gemma3(tmp_path_factory.mktemp("gemma3") / "model")


@pytest.fixture(scope="session", params=["lora", "dora"])
def adapter_folder(
    request: pytest.FixtureRequest, llama_folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """A LoRA, then a DoRA adapter of `llama_folder`; read only."""
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return build_adapter(
        folder, llama_folder, use_dora=request.param == "dora", modules=["q_proj", "v_proj", "down_proj"]
    )


@pytest.fixture
def requests() -> list[list[dict[str, str]]]:
    texts = ["list files larger than 10 megabytes", "total  42\n\n10 — naïve 日本", "sort 2>/dev/null"]
    return [
        [{"role": "system", "content": SYSTEM_PROMPTS["linux"]}, {"role": "user", "content": text}] for text in texts
    ]
