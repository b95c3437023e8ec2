"""How each tensor of a GGUF file is stored: llama.cpp's choice of types, and its own code where `gguf` has none.

Takes fp32 values; gives packed rows. The `gguf` package packs f16, bf16 and q8_0, and unpacks everything. What q4_k_m
needs beside that is packed by ggml_quantize_chunk, a function of ggml's public C header that the xllamacpp wheel
exports (2026.10.11549: manylinux x86_64 and macOS arm64). Nothing is installed for it; the wheel with a llama-quantize
program (ik-llama-cpp-python 0.1.5, 25 MB) is of a fork whose values differ. Not covered: importance matrices.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable
from typing import Any, Literal

from overseer_training.errors import ModelError, NotAvailableError

GgufKind = Literal["f16", "bf16", "f32", "q8_0", "q4_k_m"]
# Row widths that the blocks of a type do not divide get another one; llama.cpp's tensor_type_fallback.
FALLBACKS = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
PACKED_BY_GGUF = ("F32", "F16", "BF16", "Q8_0")
_MORE_BITS = re.compile(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight")


def storage_type(name: str, shape: tuple[int, ...], kind: GgufKind, layer_count: int, *, is_tied: bool) -> Any:
    """The gguf.GGMLQuantizationType of one tensor, as llama-quantize would choose it.

    Args:
        name: in GGUF.
        is_tied: the embedding is the output head too, and is stored as one.

    Source: llama_tensor_get_type_impl and tensor_type_fallback in llama.cpp's src/llama-quant.cpp.
    """
    import gguf

    if len(shape) == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = kind.upper()
    if kind == "q4_k_m":
        is_head = name == ("token_embd.weight" if is_tied else "output.weight")
        wanted = "Q6_K" if is_head or _gets_more_bits(name, layer_count) else "Q4_K"
    for candidate in (wanted, FALLBACKS.get(wanted, "F16")):
        found = gguf.GGMLQuantizationType[candidate]
        if shape[-1] % gguf.GGML_QUANT_SIZES[found][0] == 0:
            return found
    return gguf.GGMLQuantizationType.F16


def _gets_more_bits(name: str, layer_count: int) -> bool:
    """The first and last eighth of the layers, and every third between: llama.cpp's use_more_bits."""
    match = _MORE_BITS.fullmatch(name)
    if match is None:
        return False
    layer, eighth = int(match.group(1)), layer_count // 8
    return layer < eighth or layer >= 7 * layer_count // 8 or (layer - eighth) % 3 == 2


def pack(values: Any, storage: Any) -> Any:
    """`values` (a contiguous fp32 numpy array of rows) in the layout of the gguf.GGMLQuantizationType `storage`."""
    import gguf
    import numpy as np

    if storage.name in PACKED_BY_GGUF:
        return gguf.quantize(values, storage)
    packed = np.empty(gguf.quant_shape_to_byte_shape(values.shape, storage), np.uint8)
    width = values.shape[-1]
    rows = values.size // width
    written = _ggml_quantize_chunk()(int(storage), values.ctypes.data, packed.ctypes.data, 0, rows, width, None)
    if written != packed.nbytes:
        raise ModelError(f"llama.cpp packed {written} bytes where {packed.nbytes} were due. Export gguf-q8_0.")
    return packed


def require_quantizer() -> None:
    """Raises NotAvailableError where q4_k_m cannot be written."""
    _ggml_quantize_chunk()


@functools.cache
def _ggml_quantize_chunk() -> Callable[..., int]:
    try:
        from xllamacpp import xllamacpp as extension

        function = ctypes.CDLL(extension.__file__).ggml_quantize_chunk
    except (ImportError, OSError, AttributeError) as error:
        raise NotAvailableError(
            "gguf-q4_k_m needs the quantizer in xllamacpp, which is not installed or lacks it here. "
            "Export gguf-q8_0, or gguf-f16 and run llama.cpp's llama-quantize on it."
        ) from error
    # size_t (enum ggml_type, const float *, void *, int64_t start, int64_t rows, int64_t width, const float * imatrix)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    function.restype = ctypes.c_size_t
    return function
