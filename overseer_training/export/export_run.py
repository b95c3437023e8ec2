"""The recipe of an export: model folder in, a folder for other programs out.

Takes a run directory; gives runs/<id>/export/ with the weights that were asked for, a Modelfile, a README.md and, last,
manifest.json: where it is present, everything it lists is complete.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any, cast

from overseer_training.errors import ConfigError, NotAvailableError, OverseerError
from overseer_training.export.gguf_file import GgufKind, write_gguf
from overseer_training.export.model_card import write_model_card
from overseer_training.export.model_folder import ModelFolder, read_model_folder
from overseer_training.export.ollama_file import modelfile_text
from overseer_training.export.parity import Parity, measure_parity
from overseer_training.export.quantize import find_program, quantize
from overseer_training.files import sha256, write_json, write_text
from overseer_training.records import RunPaths

GGUF_KINDS = ("gguf-f16", "gguf-bf16", "gguf-f32", "gguf-q8_0", "gguf-q4_k_m")
SAFETENSORS_KINDS = ("safetensors-bf16", "safetensors-f16")
KINDS = (*GGUF_KINDS, *SAFETENSORS_KINDS)
MANIFEST_NAME = "manifest.json"
GGUF_NAME = "model.gguf"
FORMATS = {".gguf": "gguf", ".safetensors": "safetensors", ".md": "markdown", ".json": "json", ".jinja": "jinja"}


def export_run(
    paths: RunPaths,
    kinds: Sequence[str] = ("gguf-f16",),
    target: pathlib.Path | None = None,
    parity_requests: Sequence[list[dict[str, str]]] = (),
) -> dict[str, Any]:
    """Export the trained model of a run, and return the manifest that was written.

    Args:
        kinds: from `KINDS`. The first GGUF kind is model.gguf, further ones are model-<kind>.gguf; safetensors go
            into the folder safetensors/.
        target: where to write; runs/<id>/export by default.
        parity_requests: conversations on which model.gguf in llama.cpp is compared with the trained weights; with none,
            parity is not measured.

    Raises:
        ConfigError: kinds that do not exist or cannot be together.
        NotAvailableError: a kind needs a program that this machine lacks.
        ModelError: the model is damaged, or of an architecture or tokenizer that cannot be written.
    """
    _check_kinds(kinds, has_requests=bool(parity_requests))
    model = read_model_folder(paths.model)
    folder = paths.export if target is None else target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        written = _write_weights(paths.model, folder, kinds)
        notes = _write_modelfile(model, folder, written)
        gguf_path = folder / GGUF_NAME
        parity = measure_parity(gguf_path, paths.model, parity_requests) if parity_requests else None
        names = sorted(path.relative_to(folder).as_posix() for path in written)
        card = folder / "README.md"
        write_model_card(
            card, model.description, _read_optional(paths.plan), _read_optional(paths.evaluation), parity, names
        )
        manifest = _manifest(folder, [*written, card], parity, notes)
        write_json(folder / MANIFEST_NAME, manifest)
    except OSError as error:
        raise OverseerError(f"The export to {folder} stopped: {error}. Free space or choose another target.") from error
    return manifest


def _check_kinds(kinds: Sequence[str], *, has_requests: bool) -> None:
    problems = [f"no export kind {kind}; there are {', '.join(KINDS)}" for kind in kinds if kind not in KINDS]
    if not kinds:
        problems.append("no export kind was named")
    if len(set(kinds)) != len(kinds):
        problems.append("an export kind is named twice")
    if len(set(kinds) & set(SAFETENSORS_KINDS)) > 1:
        problems.append("safetensors can be exported in one precision at a time")
    if has_requests and not set(kinds) & set(GGUF_KINDS):
        problems.append("parity is measured on a GGUF file, and no GGUF kind was named")
    if problems:
        raise ConfigError(problems)
    if "gguf-q4_k_m" in kinds:
        find_program()


def _write_weights(model: pathlib.Path, folder: pathlib.Path, kinds: Sequence[str]) -> list[pathlib.Path]:
    written: list[pathlib.Path] = []
    for kind in kinds:
        family, _, precision = kind.partition("-")
        if family == "gguf":
            path = folder / (f"model-{precision}.gguf" if folder / GGUF_NAME in written else GGUF_NAME)
            _write_gguf_kind(model, path, precision)
            written.append(path)
        else:
            from overseer_training.export.merge import SafetensorsKind, write_safetensors

            path = folder / "safetensors"
            write_safetensors(model, path, cast(SafetensorsKind, precision))
            written += sorted(file for file in path.rglob("*") if file.is_file())
    return written


def _write_gguf_kind(model: pathlib.Path, path: pathlib.Path, precision: str) -> None:
    if precision != "q4_k_m":
        write_gguf(model, path, cast(GgufKind, precision))
        return
    source = path.with_name(".source-f16.gguf")
    try:
        write_gguf(model, source, "f16")
        quantize(source, path, "q4_k_m")
    finally:
        source.unlink(missing_ok=True)


def _write_modelfile(model: ModelFolder, folder: pathlib.Path, written: list[pathlib.Path]) -> list[str]:
    """Add a Modelfile to the export where model.gguf is part of it; what could not be written is returned as a note."""
    if folder / GGUF_NAME not in written:
        return []
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path, local_files_only=True)
    prompts = model.description.get("system_prompts", {})
    # Ollama serves one prompt by default; requests with a system message of their own override it.
    prompt = str(prompts.get("linux") or next(iter(prompts.values()), ""))
    path = folder / "Modelfile"
    path.unlink(missing_ok=True)
    try:
        write_text(path, modelfile_text(tokenizer, GGUF_NAME, prompt, model.stop_tokens))
    except NotAvailableError as error:
        return [str(error)]
    written.append(path)
    return []


def _read_optional(path: pathlib.Path) -> dict[str, Any] | None:
    """A JSON object of the run, None where the run has none."""
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise OverseerError(f"{path} cannot be read ({error}). Run the step that writes it again.") from error


def _manifest(
    folder: pathlib.Path, files: Sequence[pathlib.Path], parity: Parity | None, notes: Sequence[str]
) -> dict[str, Any]:
    entries = [
        {
            "path": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "format": FORMATS.get(path.suffix, "modelfile" if path.name == "Modelfile" else "other"),
        }
        for path in sorted(files)
    ]
    measured = (parity or Parity(0, 0, 0, [])).as_dict()
    return {"files": entries, "parity": measured, "notes": list(notes)}
