"""Write the checkpoint of checkpoint.py as GGUF files, architecture qwen3moe: the same weights, norms and router in f32.

    python gguf_files.py FOLDER [bf16|f16|f32|q8_0]...     FOLDER/hf to FOLDER/TYPE.gguf; files that are there stay

Rope is of the rotate-half kind in both formats, so no rows are permuted.
"""
import pathlib
import sys

import gguf
import numpy as np
import torch
from safetensors import safe_open

import geometry as c
from checkpoint import vocabulary

TYPES = {"bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16,
         "f32": gguf.GGMLQuantizationType.F32, "q8_0": gguf.GGMLQuantizationType.Q8_0}
LAYER_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
               "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
               "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate": "ffn_gate_inp"}


def tensors():
    """(GGUF name, shape, names of the tensors stacked in it)"""
    yield "token_embd.weight", (c.VOCAB, c.HIDDEN), ["model.embed_tokens.weight"]
    shapes = c.shapes()
    for i in range(c.LAYERS):
        for hf, name in LAYER_NAMES.items():
            source = f"model.layers.{i}.{hf}.weight"
            yield f"blk.{i}.{name}.weight", shapes[source][0], [source]
        for part in ("gate", "up", "down"):
            sources = [f"model.layers.{i}.mlp.experts.{e}.{part}_proj.weight" for e in range(c.EXPERTS)]
            yield f"blk.{i}.ffn_{part}_exps.weight", (c.EXPERTS, *shapes[sources[0]][0]), sources
    yield "output_norm.weight", (c.HIDDEN,), ["model.norm.weight"]
    yield "output.weight", (c.VOCAB, c.HIDDEN), ["lm_head.weight"]


def metadata(writer):
    tokens, merges = vocabulary()
    writer.add_block_count(c.LAYERS)
    writer.add_context_length(c.CONTEXT)
    writer.add_embedding_length(c.HIDDEN)
    writer.add_feed_forward_length(6144)
    writer.add_head_count(c.HEADS)
    writer.add_head_count_kv(c.KV_HEADS)
    writer.add_key_length(c.HEAD_DIM)
    writer.add_value_length(c.HEAD_DIM)
    writer.add_rope_freq_base(c.THETA)
    writer.add_layer_norm_rms_eps(c.EPS)
    writer.add_expert_count(c.EXPERTS)
    writer.add_expert_used_count(c.TOP_K)
    writer.add_expert_feed_forward_length(c.EXPERT_WIDTH)
    writer.add_vocab_size(c.VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (c.VOCAB - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(c.VOCAB - 1)


def type_of(name, shape, kind):
    return TYPES["f32"] if len(shape) == 1 or "gate_inp" in name else TYPES[kind]


def write(folder, kind):
    path = folder / f"{kind}.gguf"
    if path.exists():
        return
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "qwen3moe")
    metadata(writer)
    for name, shape, _ in tensors():
        dtype = type_of(name, shape, kind)
        rows = gguf.quant_shape_to_byte_shape(shape, dtype)
        if dtype == TYPES["f32"]:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
        elif dtype == TYPES["f16"]:
            writer.add_tensor_info(name, shape, np.dtype(np.float16), 2 * int(np.prod(shape)))
        else:  # bytes: the writer derives the elements of a row from them
            writer.add_tensor_info(name, rows, np.dtype(np.uint8), int(np.prod(rows)), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with safe_open(folder / "hf" / "model.safetensors", "pt") as weights:
        for name, shape, sources in tensors():
            dtype = type_of(name, shape, kind)
            stacked = np.concatenate([gguf.quants.quantize(weights.get_tensor(s).to(torch.float32).numpy(), dtype)
                                      for s in sources])
            writer.write_tensor_data(stacked)
    writer.close()
    part.rename(path)


if __name__ == "__main__":
    for wanted in sys.argv[2:] or TYPES:
        write(pathlib.Path(sys.argv[1]), wanted)
