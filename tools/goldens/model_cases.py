"""The models of make_model_goldens.py: configs as transformers 4 or 5 writes them, and their tensors."""

FAMILIES = {
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
}


def config(model_type, dtype, hidden, layers, heads, kv_heads, vocab, width, **fields):
    base = {
        "architectures": [FAMILIES[model_type]],
        "model_type": model_type,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": width,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    dtype_field = "dtype" if "rope_parameters" in fields else "torch_dtype"  # transformers 5 or 4
    base[dtype_field] = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[dtype]
    return base | fields


def rope4(theta=10000.0, **scaling):
    return {"rope_theta": theta, "rope_scaling": scaling or None}


def rope5(theta=10000.0, **parameters):
    return {"rope_parameters": {"rope_type": "default"} | parameters | {"rope_theta": theta}}


# name: (config, number of shards)
CASES = {
    # Hq*D = 8*128 with hidden 64, as Qwen3-30B-A3B has its heads wider than its hidden size.
    "qwen3_moe_wide_heads": (config(
        "qwen3_moe", "bf16", 64, 3, 8, 2, 300, 80, head_dim=128, num_experts=8, num_experts_per_tok=2,
        moe_intermediate_size=48, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        attention_bias=False, **rope4(1000000.0)), 1),
    # 3 kv heads, 7 experts, a dense layer between expert layers, yarn, shards.
    "qwen3_moe_yarn_sharded": (config(
        "qwen3_moe", "bf16", 96, 4, 6, 3, 259, 104, head_dim=64, num_local_experts=7, num_experts_per_tok=3,
        moe_intermediate_size=40, norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[1],
        **rope5(10000.0, rope_type="yarn", factor=4.0, original_max_position_embeddings=64)), 3),
    # 5 query heads on 1 kv head, every second layer has experts, biases on all four projections, tied.
    "qwen3_moe_sparse_step": (config(
        "qwen3_moe", "f32", 80, 4, 5, 1, 271, 96, head_dim=32, num_experts=6, num_experts_per_tok=2,
        moe_intermediate_size=56, norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[],
        attention_bias=True, **rope4()) | {"tie_word_embeddings": True}, 1),
    # Every token uses every expert: no router decision can flip, so bf16 is held to its bound everywhere.
    "qwen3_moe_all_experts": (config(
        "qwen3_moe", "bf16", 64, 3, 4, 1, 263, 80, head_dim=64, num_experts=3, num_experts_per_tok=3,
        moe_intermediate_size=40, norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[2],
        **rope5(1000000.0)), 1),
    "qwen3_linear": (config(
        "qwen3", "bf16", 128, 3, 4, 2, 300, 160, head_dim=128, **rope4(10000.0, type="linear", factor=4.0)), 1),
    # As many kv heads as query heads, an odd number of them.
    "qwen3_mha_tied": (config(
        "qwen3", "f16", 96, 3, 5, 5, 257, 120, head_dim=64, attention_bias=True, **rope5()) |
        {"tie_word_embeddings": True}, 1),
    "qwen2_moe_shared": (config(
        "qwen2_moe", "bf16", 128, 3, 4, 2, 300, 112, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40,
        shared_expert_intermediate_size=72, norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[0],
        **rope4()), 1),
    "qwen2_moe_norm_topk": (config(
        "qwen2_moe", "f32", 192, 4, 3, 1, 261, 96, num_experts=5, num_experts_per_tok=3, moe_intermediate_size=24,
        shared_expert_intermediate_size=88, norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[],
        qkv_bias=False, **rope5(50000.0)), 2),
    "qwen2_yarn": (config(
        "qwen2", "bf16", 192, 3, 3, 1, 290, 144,
        **rope4(10000.0, type="yarn", factor=4.0, original_max_position_embeddings=128, attention_factor=1.2)), 1),
    "qwen2_tied": (config(
        "qwen2", "f32", 96, 3, 6, 2, 300, 136, **rope4()) | {"tie_word_embeddings": True}, 1),
    "llama_llama3": (config(
        "llama", "bf16", 128, 3, 8, 2, 300, 176, head_dim=64, **rope5(
            500000.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64)), 1),
    "llama_biases": (config(
        "llama", "f16", 192, 2, 3, 3, 277, 136, attention_bias=True, mlp_bias=True, **rope4()) |
        {"rms_norm_eps": 1e-3}, 1),
    "llama_yarn_mscale": (config(
        "llama", "bf16", 64, 3, 2, 1, 300, 144, head_dim=128, **rope5(
            10000.0, rope_type="yarn", factor=8.0, original_max_position_embeddings=64, mscale=1.0,
            mscale_all_dim=0.5, truncate=False, beta_fast=4, beta_slow=0.5)), 1),
    # 7 query heads on 1 kv head, head_dim 24, odd widths.
    "llama_odd_heads": (config(
        "llama", "f32", 70, 3, 7, 1, 263, 101, head_dim=24, **rope4(10000.0, rope_type="linear", factor=2.0)) |
        {"tie_word_embeddings": True}, 1),
}


def head_dim(c):
    return c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]


def is_moe_layer(c, layer):
    experts = c.get("num_experts", c.get("num_local_experts", 0))
    return experts > 0 and layer not in c["mlp_only_layers"] and (layer + 1) % c["decoder_sparse_step"] == 0


def tensors(c):
    """[name, shape, scale, offset]: element i is offset + scale * u, u uniform in [-1, 1)."""
    hidden, vocab, dim = c["hidden_size"], c["vocab_size"], head_dim(c)
    q_rows, kv_rows = c["num_attention_heads"] * dim, c["num_key_value_heads"] * dim
    kind = c["model_type"]
    qwen3 = kind in ("qwen3", "qwen3_moe")
    qkv_bias = {"qwen2": True, "qwen2_moe": c.get("qkv_bias", True)}.get(kind, c.get("attention_bias", False))
    o_bias = kind not in ("qwen2", "qwen2_moe") and c.get("attention_bias", False)
    out = []

    def matrix(name, rows, cols, gain, bias=False):
        # Rows of unit-variance inputs give outputs of standard deviation `gain`.
        out.append([name + ".weight", [rows, cols], gain * (3.0 / cols) ** 0.5, 0.0])
        if bias:
            out.append([name + ".bias", [rows], 0.25 * gain, 0.0])

    def norm(name, size, offset=1.0, scale=0.4):
        out.append([name + ".weight", [size], scale, offset])

    def mlp(prefix, width, bias=False):
        matrix(prefix + "gate_proj", width, hidden, 1.0, bias)
        matrix(prefix + "up_proj", width, hidden, 1.0, bias)
        matrix(prefix + "down_proj", hidden, width, 0.8, bias)

    # A tied embedding is also the head: wide enough there to spread the logits.
    tied = c["tie_word_embeddings"]
    out.append(["model.embed_tokens.weight", [vocab, hidden], 1.6 * (3.0 / hidden) ** 0.5 if tied else 1.5, 0.0])
    for layer in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attention = prefix + "self_attn."
        norm(prefix + "input_layernorm", hidden)
        matrix(attention + "q_proj", q_rows, hidden, 1.1, qkv_bias)
        matrix(attention + "k_proj", kv_rows, hidden, 1.1, qkv_bias)
        matrix(attention + "v_proj", kv_rows, hidden, 1.2, qkv_bias)
        matrix(attention + "o_proj", hidden, q_rows, 1.0, o_bias)
        if qwen3:
            norm(attention + "q_norm", dim, 1.1)
            norm(attention + "k_norm", dim, 1.1)
        norm(prefix + "post_attention_layernorm", hidden)
        if not is_moe_layer(c, layer):
            mlp(prefix + "mlp.", c["intermediate_size"], c.get("mlp_bias", False))
            continue
        experts = c.get("num_experts", c.get("num_local_experts"))
        matrix(prefix + "mlp.gate", experts, hidden, 2.0)
        for expert in range(experts):
            mlp(f"{prefix}mlp.experts.{expert}.", c["moe_intermediate_size"])
        if kind == "qwen2_moe":
            mlp(prefix + "mlp.shared_expert.", c["shared_expert_intermediate_size"])
            matrix(prefix + "mlp.shared_expert_gate", 1, hidden, 1.0)
    norm("model.norm", hidden)
    if not tied:
        matrix("lm_head", vocab, hidden, 2.0)
    return [[name, shape, round_scale(scale), offset] for name, shape, scale, offset in out]


def round_scale(scale):
    """Twelve bits of a fraction: scale * u is then exact in a double, in every language."""
    return round(scale * 4096) / 4096
