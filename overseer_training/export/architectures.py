"""Model architectures that the GGUF writer knows: their metadata and what happens to their tensors.

Takes config.json; gives GGUF keys, and for each tensor its GGUF name and the values that llama.cpp expects. Follows
llama.cpp's conversion/llama.py and conversion/gemma.py (build 10605). Everything that a configuration asks for and
llama.cpp would compute differently is refused here. Not covered: mixtures of experts, scaled rotary embeddings, vision,
Gemma 3n.
"""

from __future__ import annotations

import re
from typing import Any

from overseer_training.errors import ModelError

SUPPORTED = {"LlamaForCausalLM": "llama", "Gemma3ForCausalLM": "gemma3"}
GEMMA3_LOCAL_ROPE_THETA = 10_000.0  # fixed in llama.cpp for layers with a sliding window
GEMMA3_PATTERN = 6  # every sixth layer sees everything; llama.cpp's default
_HEADS = re.compile(r"self_attn\.([qk])_proj\.(weight|bias)$")


class Architecture:
    """One supported configuration.

    Raises:
        ModelError: the architecture, or a setting of it, is not one that the writer supports.
    """

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        if name not in SUPPORTED:
            raise ModelError(
                f"No GGUF writer for {name}; there is one for {', '.join(SUPPORTED)}. "
                "Export safetensors and run llama.cpp's convert_hf_to_gguf.py on them."
            )
        import gguf

        self.gguf_name = SUPPORTED[name]
        self.config = config
        self.layer_count = int(config["num_hidden_layers"])
        self.head_count = int(config["num_attention_heads"])
        self.key_head_count = int(config.get("num_key_value_heads") or self.head_count)
        self.head_width = int(config.get("head_dim") or config["hidden_size"] // self.head_count)
        self.is_tied = bool(config.get("tie_word_embeddings", self.gguf_name == "gemma3"))
        kind = gguf.MODEL_ARCH.LLAMA if self.gguf_name == "llama" else gguf.MODEL_ARCH.GEMMA3
        self._names = gguf.get_tensor_name_map(kind, self.layer_count)
        problems = self._llama_problems() if self.gguf_name == "llama" else self._gemma3_problems()
        if problems:
            raise ModelError(f"{name} with {'; '.join(problems)} cannot be written as GGUF here. Export safetensors.")

    def metadata(self) -> dict[str, int | float]:
        """Keys below the architecture's name; a Python int becomes uint32, a float becomes float32."""
        config = self.config
        values: dict[str, int | float] = {
            "vocab_size": int(config["vocab_size"]),
            "context_length": int(config["max_position_embeddings"]),
            "embedding_length": int(config["hidden_size"]),
            "block_count": self.layer_count,
            "feed_forward_length": int(config["intermediate_size"]),
            "attention.head_count": self.head_count,
            "attention.head_count_kv": self.key_head_count,
            "attention.key_length": self.head_width,
            "attention.value_length": self.head_width,
            "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
            "rope.freq_base": self._rope("full_attention")[0],
        }
        if self.gguf_name == "llama":
            values["rope.dimension_count"] = self.head_width
        else:
            values["attention.sliding_window"] = int(config["sliding_window"])
        return values

    def tensor_name(self, name: str) -> str | None:
        """GGUF's name of a Hugging Face tensor; None for the output head of tied embeddings, which is not stored.

        Raises:
            ModelError: a tensor that this architecture does not have, and that would be lost.
        """
        if self.is_tied and name == "lm_head.weight":
            return None
        found = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(f"Tensor {name} has no place in a {self.gguf_name} GGUF. Export safetensors.")
        return str(found)

    def check_complete(self, stored_names: set[str]) -> None:
        """Compare the GGUF names of all stored tensors with what the architecture needs.

        Raises:
            ModelError: a tensor is missing; llama.cpp would refuse the file only when somebody loads it.
        """
        needed = {"token_embd.weight", "output_norm.weight"} | (set() if self.is_tied else {"output.weight"})
        blocks = {name.split(".", 2)[2] for name in stored_names if name.startswith("blk.")}
        needed |= {f"blk.{layer}.{part}" for layer in range(self.layer_count) for part in blocks | {"attn_q.weight"}}
        if missing := sorted(needed - stored_names):
            raise ModelError(f"The weights lack {', '.join(missing[:3])} ({len(missing)} in all). Train or copy again.")

    def convert(self, name: str, weight: Any) -> Any:
        """The values of a tensor (torch, fp32) in llama.cpp's order and convention."""
        if self.gguf_name == "gemma3":
            # transformers stores Gemma's norms as an offset from 1.
            return weight + 1.0 if name.endswith("norm.weight") else weight
        match = _HEADS.search(name)
        if match is None:
            return weight
        heads = self.head_count if match.group(1) == "q" else self.key_head_count
        # Rotary pairs: (i, i + half) in transformers, (2i, 2i + 1) in llama.cpp's "norm" rope.
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)

    def _rope(self, layer_type: str) -> tuple[float, str]:
        """Base frequency and kind of the rotary embedding, from `rope_parameters` (transformers 5) or older keys."""
        rope = self.config.get("rope_parameters") or {}
        rope = rope.get(layer_type, rope)
        scaling = self.config.get("rope_scaling") or {}
        kind = rope.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default"
        default = 1_000_000.0 if self.gguf_name == "gemma3" else 10_000.0
        return float(rope.get("rope_theta") or self.config.get("rope_theta") or default), str(kind)

    def _llama_problems(self) -> list[str]:
        problems = []
        if (kind := self._rope("full_attention")[1]) != "default":
            problems.append(f"rotary embeddings of type {kind}")
        if self.config.get("hidden_act", "silu") != "silu":
            problems.append(f"the activation {self.config['hidden_act']}")
        return problems

    def _gemma3_problems(self) -> list[str]:
        config = self.config
        pattern = [
            "full_attention" if (layer + 1) % GEMMA3_PATTERN == 0 else "sliding_attention"
            for layer in range(self.layer_count)
        ]
        problems = []
        if config.get("layer_types", pattern) != pattern:
            problems.append("another order of local and global layers than five to one")
        if self._rope("full_attention")[1] != "default":
            problems.append("scaled rotary embeddings")
        local_theta = (config.get("rope_parameters") or {}).get("sliding_attention", {}).get("rope_theta")
        if (
            float(local_theta or config.get("rope_local_base_freq") or GEMMA3_LOCAL_ROPE_THETA)
            != GEMMA3_LOCAL_ROPE_THETA
        ):
            problems.append("another local rotary base than 10000")
        if config.get("query_pre_attn_scalar", self.head_width) != self.head_width:
            problems.append("an attention scale that is not the head width")
        if config.get("final_logit_softcapping") or config.get("attn_logit_softcapping"):
            problems.append("soft-capped logits")
        if config.get("use_bidirectional_attention"):
            problems.append("bidirectional attention")
        return problems
