"""The recipe of an export: model folder in, a folder for other programs out.

Takes a run directory; gives runs/<id>/export/ with the weights that were asked for, a Modelfile, a README.md and, last,
manifest.json: where it is present, everything it lists is complete. Then the folder is signed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from overseer_training.errors import ConfigError, NotAvailableError, OverseerError, UsageError
from overseer_training.evaluation.gate import judge_run, read_gate
from overseer_training.export.accuracy import measure_accuracy, read_verdicts
from overseer_training.export.adapter import require_adapter, write_adapter
from overseer_training.export.gguf_file import write_gguf
from overseer_training.export.manifest import MANIFEST_NAME, describe_file, keep_valid_entries, read_optional
from overseer_training.export.model_card import write_model_card
from overseer_training.export.model_folder import ADAPTER_WEIGHTS_NAME, ModelFolder, read_model_folder
from overseer_training.export.ollama_file import OllamaSettings, ollama_settings
from overseer_training.export.parity import TrainedAnswers
from overseer_training.export.quantize import GgufKind, require_quantizer
from overseer_training.files import sha256, write_json, write_text
from overseer_training.guards.signatures import admit_model, sign_model, withdraw_signature
from overseer_training.intervals import wilson_interval
from overseer_training.records import RunPaths, Score

if TYPE_CHECKING:
    from overseer_training.evaluation.checks import Thresholds
    from overseer_training.evaluation.runner import Evaluator
    from overseer_training.export.ollama_server import OllamaServer

GGUF_KINDS = ("gguf-f16", "gguf-bf16", "gguf-f32", "gguf-q8_0", "gguf-q4_k_m")
SAFETENSORS_KINDS = {"safetensors": "bf16", "safetensors-f16": "f16"}
KINDS = ("adapter", *SAFETENSORS_KINDS, *GGUF_KINDS, "ollama")
GGUF_NAME = "model.gguf"
Notify = Callable[[str], None]


def export_run(
    paths: RunPaths,
    kinds: Sequence[str] = ("gguf-f16",),
    target: pathlib.Path | None = None,
    parity_requests: Sequence[list[dict[str, str]]] = (),
    *,
    evaluator: Evaluator | None = None,
    ollama: OllamaServer | None = None,
    thresholds: Thresholds | None = None,
    notify: Notify = lambda message: None,
) -> dict[str, Any]:
    """Export the trained model of a run, and return the manifest that was written.

    Args:
        kinds: from `KINDS`. The first GGUF kind is model.gguf, further ones are model-<kind>.gguf; safetensors and
            adapter go into folders of these names; ollama sends model.gguf, in f16 where no GGUF kind is named.
        target: where to write; runs/<id>/export by default. What an earlier export of the same weights left there
            stays in the manifest.
        parity_requests: conversations on which each GGUF in llama.cpp is compared with the trained weights; with none,
            parity is not measured.
        evaluator: asks and judges each GGUF; without one, accuracy is not measured.
        ollama: where kind ollama makes the model, and by which name; this machine's server by default.
        thresholds: of the gate, for the export that belongs to the run: its parity joins eval.json, and the run is judged again.

    Raises:
        ConfigError: kinds that do not exist or cannot be together.
        NotAvailableError: a kind that this run or machine cannot give. Where no Ollama server answers, or no template
            fits it, all files are complete before.
        ModelError: the model is damaged, or of an architecture or tokenizer that cannot be written; or model or earlier export
            are not what was signed.
    """
    _check_kinds(kinds, is_measured=bool(parity_requests) or evaluator is not None)
    admit_model(paths.model)
    model = read_model_folder(paths.model)
    if "adapter" in kinds:
        require_adapter(model)
    if "ollama" in kinds and ollama is None:
        from overseer_training.export.ollama_server import OllamaServer

        ollama = OllamaServer()
    if "ollama" in kinds and not set(kinds) & set(GGUF_KINDS):
        kinds = ("gguf-f16", *kinds)
    folder = paths.export if target is None else target
    try:
        withdraw_signature(folder)
        weights_sha256 = _hash_weights(model)
        entries = keep_valid_entries(folder, weights_sha256)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        written = _write_weights(model, folder, kinds)
        settings, notes = _write_modelfile(model, folder, written)
        entries |= {path.relative_to(folder).as_posix(): describe_file(path, folder) for path in written}
        _measure(paths, folder, written, entries, parity_requests, evaluator, notify)
        if thresholds is not None:
            _judge_again(paths, entries.get(GGUF_NAME, {}).get("parity"), thresholds)
        card = folder / "README.md"
        plan, evaluation = read_optional(paths.plan), read_optional(paths.evaluation)
        files = [entries[name] for name in sorted(entries)]
        write_model_card(card, model.description, plan, evaluation, files, failures=_read_failures(paths))
        entries[card.name] = describe_file(card, folder)
        manifest = {
            "files": [entries[name] for name in sorted(entries)],
            "weights_sha256": weights_sha256,
            "parity": entries.get(GGUF_NAME, {}).get("parity"),
            "notes": notes,
        }
        write_json(folder / MANIFEST_NAME, manifest)
        _sign(folder, written, notify)
    except OSError as error:
        raise OverseerError(f"The export to {folder} stopped: {error}. Free space or choose another target.") from error
    if "ollama" in kinds and ollama is not None:
        _make_in_ollama(ollama, folder, settings, notes, notify)
    return manifest


def _check_kinds(kinds: Sequence[str], *, is_measured: bool) -> None:
    problems = [f"no export kind {kind}; there are {', '.join(KINDS)}" for kind in kinds if kind not in KINDS]
    if not kinds:
        problems.append("no export kind was named")
    if len(set(kinds)) != len(kinds):
        problems.append("an export kind is named twice")
    if len(set(kinds) & set(SAFETENSORS_KINDS)) > 1:
        problems.append("safetensors can be exported in one precision at a time")
    if is_measured and not set(kinds) & {*GGUF_KINDS, "ollama"}:
        problems.append("parity and accuracy are measured on a GGUF file, and no GGUF kind was named")
    if problems:
        raise ConfigError(problems)
    if "gguf-q4_k_m" in kinds:
        require_quantizer()


def _hash_weights(model: ModelFolder) -> list[str]:
    """SHA-256 of the files that training wrote: the adapter, or full weights."""
    return [
        sha256(file) for file in ([model.path / ADAPTER_WEIGHTS_NAME] if model.is_adapter else model.weight_files())
    ]


def _write_weights(model: ModelFolder, folder: pathlib.Path, kinds: Sequence[str]) -> list[pathlib.Path]:
    written: list[pathlib.Path] = []
    for kind in kinds:
        if kind in GGUF_KINDS:
            precision = kind.removeprefix("gguf-")
            path = folder / (f"model-{precision}.gguf" if folder / GGUF_NAME in written else GGUF_NAME)
            write_gguf(model.path, path, cast(GgufKind, precision))
            written.append(path)
        elif kind == "adapter":
            write_adapter(model, folder / "adapter")
            written += sorted((folder / "adapter").iterdir())
        elif kind in SAFETENSORS_KINDS:
            from overseer_training.export.merge import SafetensorsKind, write_safetensors

            path = folder / "safetensors"
            write_safetensors(model.path, path, cast(SafetensorsKind, SAFETENSORS_KINDS[kind]))
            written += sorted(file for file in path.rglob("*") if file.is_file())
    return written


def _write_modelfile(
    model: ModelFolder, folder: pathlib.Path, written: list[pathlib.Path]
) -> tuple[OllamaSettings | None, list[str]]:
    """Add a Modelfile to the export where model.gguf is part of it; gives the settings in it, or notes why there are none."""
    if folder / GGUF_NAME not in written:
        return None, []
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path, local_files_only=True)
    prompts = model.description.get("system_prompts", {})
    # Ollama serves one prompt by default; requests with a system message of their own override it.
    prompt = str(prompts.get("linux") or next(iter(prompts.values()), ""))
    path = folder / "Modelfile"
    path.unlink(missing_ok=True)
    try:
        settings = ollama_settings(tokenizer, prompt, model.stop_tokens)
    except NotAvailableError as error:
        return None, [str(error)]
    write_text(path, settings.modelfile(GGUF_NAME))
    written.append(path)
    return settings, []


def _measure(
    paths: RunPaths,
    folder: pathlib.Path,
    written: Sequence[pathlib.Path],
    entries: dict[str, dict[str, Any]],
    parity_requests: Sequence[list[dict[str, str]]],
    evaluator: Evaluator | None,
    notify: Notify,
) -> None:
    """Add what llama.cpp makes of each new GGUF to its entry."""
    files = [path for path in written if path.suffix == ".gguf"]
    if parity_requests and files:
        trained = TrainedAnswers(paths.model, parity_requests)
        for path in files:
            parity = trained.compare(path)
            entries[path.name]["parity"] = parity.as_dict()
            notify(f"{path.name}: {parity.equal} of {parity.n} answers as the trained weights give them")
        del trained
    if evaluator is None:
        return
    verdicts = read_verdicts(paths.answers)
    for path in files:
        accuracy = measure_accuracy(path, evaluator, verdicts)
        entries[path.name]["accuracy"] = accuracy.as_dict()
        notify(f"{path.name}: {accuracy.as_text()}")


def _judge_again(paths: RunPaths, parity: dict[str, Any] | None, thresholds: Thresholds) -> None:
    """Put the parity of model.gguf among the scores of the trained model, and let the gate see it."""
    evaluation = read_optional(paths.evaluation)
    if not parity or not parity["n"] or evaluation is None:
        return
    score = Score(parity["n"], parity["value"], wilson_interval(parity["equal"], parity["n"]))
    evaluation["trained"] = {**evaluation["trained"], "export_parity": score.as_dict()}
    write_json(paths.evaluation, evaluation)
    judge_run(paths, thresholds)


def _sign(folder: pathlib.Path, written: Sequence[pathlib.Path], notify: Notify) -> None:
    """Sign the export, and each folder in it that is a model of its own."""
    parts = {path.parent for path in written} - {folder}
    for made in (*sorted(parts), folder):
        unsigned = sign_model(made)
    if unsigned:
        notify(f"  {unsigned}")


def _read_failures(paths: RunPaths) -> list[str]:
    """Why the gate of the run failed, for the model card; nothing where it passed or there is none."""
    try:
        return [check.why for check in read_gate(paths.root).blocking("export")]
    except UsageError:
        return []


def _make_in_ollama(
    ollama: OllamaServer, folder: pathlib.Path, settings: OllamaSettings | None, notes: Sequence[str], notify: Notify
) -> None:
    if settings is None:
        raise NotAvailableError(f"{folder / GGUF_NAME} is written, but not sent to Ollama: {' '.join(notes)}")
    try:
        ollama.create(folder / GGUF_NAME, settings, notify)
    except NotAvailableError as error:
        raise NotAvailableError(f"{error}, then type: ollama create {ollama.name} -f {folder / 'Modelfile'}") from error
