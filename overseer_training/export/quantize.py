"""Smaller GGUF files from a finished one.

Takes a GGUF in f32, f16 or bf16; gives one in q8_0 (with the `gguf` package) or q4_k_m (with a `llama-quantize`
program, where there is one). llama-quantize is not a dependency: the wheel with it (ik-llama-cpp-python 0.1.5: 25 MB,
94 MB unpacked, of a fork of llama.cpp) is not light enough for one optional kind. Not covered: importance matrices.
"""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
import subprocess
from typing import Any, Literal, get_args

from overseer_training.errors import ModelError, NotAvailableError, UsageError
from overseer_training.files import staged_file

QuantizedKind = Literal["q8_0", "q4_k_m"]
PROGRAM = "llama-quantize"
FILE_TYPE_Q8_0 = 7  # llama_ftype in llama.h
TIMEOUT_SECONDS = 3600  # chosen: 135M parameters take seconds, 8B on a slow machine minutes


def quantize(source: pathlib.Path, target: pathlib.Path, kind: QuantizedKind) -> None:
    """Write `source` as `kind` to `target`, which is complete or absent.

    Raises:
        NotAvailableError: q4_k_m without a llama-quantize on this machine.
        ModelError: `source` is missing or already quantized, or llama-quantize failed.
    """
    if kind not in get_args(QuantizedKind):
        raise UsageError(f"No quantization {kind}; there are {', '.join(get_args(QuantizedKind))}.")
    if not source.is_file():
        raise ModelError(f"{source} is missing. Write it with `overseer export` first.")
    with staged_file(target) as staging:
        if kind == "q8_0":
            _write_q8_0(source, staging)
        else:
            _run_program(find_program(), source, staging, kind)


def find_program() -> pathlib.Path:
    """llama-quantize from the PATH, or from ik-llama-cpp-python where that is installed.

    Raises:
        NotAvailableError: neither is there.
    """
    if found := shutil.which(PROGRAM):
        return pathlib.Path(found)
    # find_spec does not import the package, which would load its libraries.
    package = importlib.util.find_spec("ik_llama_cpp")
    for folder in (package.submodule_search_locations or []) if package else []:
        program = pathlib.Path(folder) / "bin" / PROGRAM
        if program.is_file():
            return program
    raise NotAvailableError(
        f"q4_k_m needs {PROGRAM}, which is not on the PATH. Use q8_0, put llama.cpp's {PROGRAM} on the PATH, "
        "or `pip install ik-llama-cpp-python`."
    )


def _run_program(program: pathlib.Path, source: pathlib.Path, target: pathlib.Path, kind: str) -> None:
    try:
        done = subprocess.run(
            [program, source, target, kind.upper()],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{program} could not quantize {source}: {error}") from error
    if done.returncode != 0 or not target.is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise ModelError(f"{program} ended with {done.returncode} on {source}: {lines[-1]}")


def _write_q8_0(source: pathlib.Path, target: pathlib.Path) -> None:
    import gguf
    import numpy as np

    try:
        reader = gguf.GGUFReader(source)
    except ValueError as error:
        raise ModelError(f"{source} is not a readable GGUF file ({error}). Export it again.") from error
    types = gguf.GGMLQuantizationType
    plain = {types.F32, types.F16, types.BF16}
    if any(tensor.tensor_type not in plain for tensor in reader.tensors):
        raise ModelError(f"{source} is quantized already; quantizing twice loses more. Start from f16.")
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    try:
        _copy_metadata(reader, writer)
        planned = []
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[types.Q8_0]
        for tensor in reader.tensors:
            shape = tuple(int(size) for size in reversed(tensor.shape))
            is_matrix = len(shape) > 1 and shape[-1] % block_size == 0
            qtype = types.Q8_0 if is_matrix else tensor.tensor_type
            size = tensor.n_elements // block_size * block_bytes if is_matrix else tensor.n_bytes
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), int(size), qtype)
            planned.append((tensor, shape, is_matrix))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, shape, is_matrix in planned:
            if is_matrix:
                values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
                writer.write_tensor_data(gguf.quantize(values, types.Q8_0))
            else:
                writer.write_tensor_data(np.ascontiguousarray(tensor.data))
    finally:
        writer.close()


def _copy_metadata(reader: Any, writer: Any) -> None:
    import gguf

    for key, field in reader.fields.items():
        # The writer sets the architecture itself; GGUF.* describe the file, not the model.
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        inner = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        value = FILE_TYPE_Q8_0 if key == "general.file_type" else field.contents()
        writer.add_key_value(key, value, field.types[0], sub_type=inner)
