"""`python -m loadtests.peers.generators.llama_file CHECKPOINT FILE`: a Llama checkpoint as llama.cpp reads it, weights in float32, without a vocabulary.

llama.cpp rotates neighbouring numbers of a head, the checkpoint its two halves: rows of the query and key weights are put in that order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
}  # fmt: skip
_IN_BLOCKS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def main() -> int:
    """Write the file."""
    folder, file = Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config.get("rope_parameters", {}).get("rope_theta", 10000.0))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    heads = {"self_attn.q_proj": config["num_attention_heads"], "self_attn.k_proj": config["num_key_value_heads"]}
    for name, values in load_file(folder / "model.safetensors").items():
        writer.add_tensor(*_tensor(name, np.ascontiguousarray(values, np.float32), heads))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return 0


def _tensor(name: str, values: npt.NDArray[Any], heads: dict[str, int]) -> tuple[str, npt.NDArray[Any]]:
    if name in _NAMES:
        return _NAMES[name], values
    _, _, layer, rest = name.split(".", 3)
    part = rest.removesuffix(".weight")
    if part in heads:
        n, width = heads[part], values.shape[1]
        values = np.ascontiguousarray(values.reshape(n, 2, -1, width).swapaxes(1, 2).reshape(-1, width))
    return f"blk.{layer}.{_IN_BLOCKS[part]}.weight", values


if __name__ == "__main__":
    sys.exit(main())
