"""Write a training checkpoint as a Hugging Face Qwen3MoeForCausalLM folder (bf16 safetensors, config, generation config).

    python export.py --checkpoint /tmp/recall/ckpt.pt --out ../../models/recall-moe
    python export.py --random-seed 0 --out ../../models/recall-moe      (untrained weights of the right shapes)
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from model import Config, Model


def tensors(model):
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    for i, layer in enumerate(model.layers):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": layer.ln1, p + "post_attention_layernorm.weight": layer.ln2,
                p + "self_attn.q_norm.weight": layer.q_norm, p + "self_attn.k_norm.weight": layer.k_norm,
                p + "self_attn.q_proj.weight": layer.wq, p + "self_attn.k_proj.weight": layer.wk,
                p + "self_attn.v_proj.weight": layer.wv, p + "self_attn.o_proj.weight": layer.wo,
                p + "mlp.gate.weight": layer.router}
        for e in range(model.c.experts):
            out |= {p + f"mlp.experts.{e}.gate_proj.weight": layer.gate[e],
                    p + f"mlp.experts.{e}.up_proj.weight": layer.up[e],
                    p + f"mlp.experts.{e}.down_proj.weight": layer.down[e]}
    return {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in out.items()}


def hf_config(c, eos, pad):
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None,
        "decoder_sparse_step": 1, "eos_token_id": eos, "head_dim": c.head_dim, "hidden_act": "silu",
        "hidden_size": c.hidden_size, "initializer_range": 0.02, "intermediate_size": c.expert_width * c.experts_per_token,
        "max_position_embeddings": c.max_positions, "max_window_layers": c.layers, "mlp_only_layers": [],
        "model_type": "qwen3_moe", "moe_intermediate_size": c.expert_width, "norm_topk_prob": True,
        "num_attention_heads": c.heads, "num_experts": c.experts, "num_experts_per_tok": c.experts_per_token,
        "num_hidden_layers": c.layers, "num_key_value_heads": c.kv_heads, "output_router_logits": False,
        "pad_token_id": pad, "rms_norm_eps": c.eps, "rope_scaling": None, "rope_theta": c.rope_theta,
        "router_aux_loss_coef": 0.001, "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "use_cache": True, "use_sliding_window": False, "vocab_size": c.vocab_size}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--checkpoint", type=pathlib.Path)
    p.add_argument("--random-seed", type=int)
    p.add_argument("--out", type=pathlib.Path, required=True)
    args = p.parse_args()
    if args.checkpoint:
        state = torch.load(args.checkpoint, weights_only=False)
        model = Model(Config(**state["config"]))
        model.load_state_dict(state["model"])
    else:
        torch.manual_seed(args.random_seed)
        model = Model(Config())
    vocab = {t["content"]: t["id"] for t in json.loads((args.out / "tokenizer.json").read_text())["added_tokens"]}
    eos, pad = vocab["<|im_end|>"], vocab["<|endoftext|>"]
    weights = args.out / "model.safetensors"
    save_file(tensors(model), weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    (args.out / "config.json").write_text(json.dumps(hf_config(model.c, eos, pad), indent=2) + "\n")
    (args.out / "generation_config.json").write_text(json.dumps(
        {"do_sample": False, "eos_token_id": [eos, pad], "pad_token_id": pad, "max_new_tokens": 64}, indent=2) + "\n")


if __name__ == "__main__":
    main()
