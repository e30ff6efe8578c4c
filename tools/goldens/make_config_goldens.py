#!/usr/bin/env python3
"""Saves one config.json per case as the installed transformers writes it: tests/golden/configs/CASE.tfN.json.

Run once with transformers 4 and once with transformers 5 (the files in the repository: 4.57.1 and 5.23.0); the
test demands that both spellings mean the same.
"""
import json
import pathlib
import tempfile

import transformers

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "configs"

CASES = {
    "qwen3_moe_defaults": ("Qwen3Moe", dict(dtype="bfloat16")),
    "qwen3_moe_yarn": ("Qwen3Moe", dict(
        vocab_size=300, hidden_size=96, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=3, head_dim=64,
        num_experts=8, num_experts_per_tok=3, moe_intermediate_size=40, intermediate_size=112, norm_topk_prob=True,
        decoder_sparse_step=2, mlp_only_layers=[3], max_position_embeddings=1024, rope_theta=1e6, dtype="bfloat16",
        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=256, beta_fast=16.0,
                          attention_factor=1.25))),
    "qwen3_linear": ("Qwen3", dict(
        vocab_size=300, hidden_size=96, num_hidden_layers=3, num_attention_heads=5, num_key_value_heads=1, head_dim=32,
        intermediate_size=80, attention_bias=True, tie_word_embeddings=True, dtype="float16", rope_theta=5000.0,
        rope_scaling=dict(rope_type="linear", factor=2.5), max_position_embeddings=512, eos_token_id=[7, 9])),
    "qwen2_moe": ("Qwen2Moe", dict(
        vocab_size=300, hidden_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, shared_expert_intermediate_size=72,
        intermediate_size=112, mlp_only_layers=[1], max_position_embeddings=512, dtype="float32", eos_token_id=3)),
    "qwen2": ("Qwen2", dict(
        vocab_size=300, hidden_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=80, max_position_embeddings=512, max_window_layers=2, use_sliding_window=True,
        sliding_window=128, dtype="bfloat16")),
    "llama_llama3": ("Llama", dict(
        vocab_size=300, hidden_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        intermediate_size=80, max_position_embeddings=2048, rope_theta=500000.0, dtype="bfloat16", rms_norm_eps=1e-5,
        rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=256))),
    "llama_biases": ("Llama", dict(
        vocab_size=300, hidden_size=96, num_hidden_layers=2, num_attention_heads=6, intermediate_size=80,
        attention_bias=True, mlp_bias=True, pretraining_tp=2, dtype="float16")),
}


def main():
    major = transformers.__version__.split(".")[0]
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (family, arguments) in CASES.items():
        config = getattr(transformers, family + "Config")(architectures=[family + "ForCausalLM"], **arguments)
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            text = (pathlib.Path(folder) / "config.json").read_text()
        (OUT / f"{name}.tf{major}.json").write_text(json.dumps(json.loads(text), indent=1) + "\n")


main()
