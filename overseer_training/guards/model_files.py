"""Says whether a model folder may be opened: weights in safetensors or GGUF, settings in JSON, and nothing that is or hides a program.

Takes a folder; gives findings, one line each, none for a folder that may be opened. Nothing in it is loaded or run.

    validate_model_folder(path)     -> findings
    require_sound_model(path)          raises ModelError with the first
    list_hashes(path)               -> what signatures.py signs

Not covered: a folder that is changed between this check and loading; what a model says.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from overseer_training.errors import ModelError
from overseer_training.files import sha256
from overseer_training.guards.chat_template import check_chat_template
from overseer_training.guards.gguf_file import check_gguf
from overseer_training.guards.safetensors_file import check_safetensors

SIGNATURE_NAME = "signature.json"
CONVERT = "convert it to safetensors where it came from"
RUNS_CODE = f"this kind of file can run code when it is loaded, so it is never opened; {CONVERT}"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".dill")
ZIPS = (b"PK\x03\x04", b"PK\x05\x06")  # torch.save writes pickles into one
PROGRAMS = (".py", ".pyc", ".so", ".dylib", ".dll", ".sh", ".exe", ".js", ".ipynb")
TEXTS = (".txt", ".md")
TOKENIZERS = (".model", ".tiktoken")  # tables of sentencepiece and tiktoken
NAMES = ("LICENSE", "NOTICE", "Modelfile", "README", ".gitattributes", ".gitignore")
OF_DESKTOPS = (".DS_Store",)  # the Finder writes it into each folder that it shows; no loader reads it
LARGEST_JSON_BYTES = 256 * 1024 * 1024  # the largest tokenizers have some 40 MB
# Keys that make a loader import code: from the folder or the hub, or, for `auto_mapping`, from any package that is installed.
CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines", "auto_mapping", "custom_code")
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "added_tokens.json",
)  # any word may be a key in them, and no loader imports for one
TEMPLATE_KEYS = ("chat_template", "default_chat_template")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason not to open a folder; `file` is relative to it."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}"


def validate_model_folder(path: pathlib.Path, with_values: bool = True) -> list[Finding]:
    """All reasons not to open the model in `path`.

    Args:
        with_values: also look at every weight for infinite ones and for what is not a number.
    """
    if not path.is_dir():
        return [Finding(path.name, "there is no such folder")]
    findings, has_weights = [], False
    for file in list_files(path):
        name = file.relative_to(path).as_posix()
        if not name.isprintable() or "\\" in name:
            findings.append(Finding(ascii(name), "its name has characters that hide what it is"))
            continue
        problem = _find_wrong_place(file, path)
        problems = [problem] if problem else list(_check_file(file, with_values))
        findings += [Finding(name, problem) for problem in problems]
        has_weights |= file.suffix in (".safetensors", ".gguf")
    if not has_weights:
        findings.append(Finding(path.name, f"there are no safetensors or GGUF weights in it; {CONVERT}"))
    return findings


def require_sound_model(path: pathlib.Path, with_values: bool = True) -> None:
    """Raises ModelError with the first finding, when there is one."""
    findings = validate_model_folder(path, with_values)
    if findings:
        raise refuse_model(path, findings)


def refuse_model(path: pathlib.Path, findings: Sequence[Finding]) -> ModelError:
    """The error that says why the model in `path` is not opened; there is at least one reason."""
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return ModelError(f"the model in {path} is not opened: {findings[0]}{more}")


def list_hashes(path: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file in `path` but its signature, by name relative to it.

    Raises:
        ModelError: something in it is no plain file, or leads elsewhere.
    """
    hashes = {}
    for file in sorted(list_files(path)):
        problem = _find_wrong_place(file, path)
        if problem:
            raise ModelError(f"{file} is not signed or verified: {problem}")
        hashes[file.relative_to(path).as_posix()] = sha256(file)
    hashes.pop(SIGNATURE_NAME, None)
    return hashes


def list_files(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Everything below `path` but plain folders and what desktops put there; links are listed and not followed."""
    for folder, folders, files in os.walk(path, followlinks=False):
        here = pathlib.Path(folder)
        yield from (here / name for name in sorted(files) if name not in OF_DESKTOPS)
        yield from (here / name for name in sorted(folders) if (here / name).is_symlink())


def _find_wrong_place(file: pathlib.Path, root: pathlib.Path) -> str | None:
    """Why `file` is no plain file of the folder `root`. The hub's cache links files of a snapshot to blobs beside it."""
    target = file.resolve()
    allowed = [root.resolve()]
    if root.resolve().parent.name == "snapshots":
        allowed.append(root.resolve().parent.parent / "blobs")
    if not any(target.is_relative_to(folder) for folder in allowed):
        return "it is a link that leads out of the folder; put the file itself there"
    return None if target.is_file() else "it is no plain file; remove it"


def _check_file(file: pathlib.Path, with_values: bool) -> Iterator[str]:
    with file.open("rb") as handle:
        start = handle.read(64)
    suffix = file.suffix.lower()
    is_pickled = suffix in PICKLES or start[:4] in ZIPS or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")
    if suffix == ".safetensors":
        problems = check_safetensors(file, with_values)
        # The file begins with the length of its header, which may have the bytes of any other format.
        yield from [RUNS_CODE] if problems and is_pickled else problems
    elif is_pickled:
        yield RUNS_CODE
    elif suffix in PROGRAMS or start[:2] in (b"#!", b"MZ") or start[:4] == b"\x7fELF":
        yield "this is a program, which a model does not need; remove it"
    elif suffix == ".gguf":
        problems, templates = check_gguf(file, with_values)
        yield from problems
        yield from (problem for template in templates for problem in check_chat_template(template))
    elif suffix == ".json":
        yield from _check_json(file)
    elif suffix == ".jinja":
        yield from check_chat_template(file.read_text(encoding="utf-8", errors="replace"))
    elif suffix not in (*TEXTS, *TOKENIZERS) and file.name not in NAMES:
        yield "a model folder has no files of this kind; remove it"


def _check_json(file: pathlib.Path) -> Iterator[str]:
    try:
        document = _read_json(file)
    except (ValueError, RecursionError) as error:
        yield f"it is no JSON ({str(error)[:100]}); get it again"
        return
    for key, value in _walk(document) if file.name not in VOCABULARIES else ():
        if key in CODE_KEYS and value not in (None, False, {}, []):
            yield f"it asks for code to be imported ({key}); use a model that needs none"
        if key in TEMPLATE_KEYS:
            listed = value if isinstance(value, list) else [value]
            texts = [item.get("template") if isinstance(item, dict) else item for item in listed]
            yield from (problem for text in texts if isinstance(text, str) for problem in check_chat_template(text))


def _read_json(file: pathlib.Path) -> Any:
    if file.stat().st_size > LARGEST_JSON_BYTES:
        raise ValueError(f"it has more than {LARGEST_JSON_BYTES} bytes")
    return json.loads(file.read_text(encoding="utf-8"))


def _walk(document: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of the tables in `document`."""
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield from found.items()
            waiting += found.values()
        elif isinstance(found, list):
            waiting += [item for item in found if isinstance(item, dict | list)]
