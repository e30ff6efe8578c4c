"""The model that every engine runs: two layers with the geometry of Qwen3-30B-A3B, the vocabulary cut from 151,936 to 32,768
entries (only the last row meets the lm_head in a prefill)."""
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 2, 2048, 32, 4, 128
EXPERTS, TOP_K, EXPERT_WIDTH, VOCAB, CONTEXT = 128, 8, 768, 32768, 40960
THETA, EPS = 1000000.0, 1e-6


def shapes():
    """name -> (shape, gain); no gain: a norm."""
    out = {"model.embed_tokens.weight": ((VOCAB, HIDDEN), HIDDEN ** 0.5), "model.norm.weight": ((HIDDEN,), None),
           "lm_head.weight": ((VOCAB, HIDDEN), 2.0)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": ((HIDDEN,), None), p + "post_attention_layernorm.weight": ((HIDDEN,), None),
                p + "self_attn.q_norm.weight": ((HEAD_DIM,), None), p + "self_attn.k_norm.weight": ((HEAD_DIM,), None),
                p + "self_attn.q_proj.weight": ((HEADS * HEAD_DIM, HIDDEN), 1.0),
                p + "self_attn.k_proj.weight": ((KV_HEADS * HEAD_DIM, HIDDEN), 1.0),
                p + "self_attn.v_proj.weight": ((KV_HEADS * HEAD_DIM, HIDDEN), 1.0),
                p + "self_attn.o_proj.weight": ((HIDDEN, HEADS * HEAD_DIM), 3.0),
                p + "mlp.gate.weight": ((EXPERTS, HIDDEN), 1.0)}
        for e in range(EXPERTS):
            x = p + f"mlp.experts.{e}."
            out |= {x + "gate_proj.weight": ((EXPERT_WIDTH, HIDDEN), 1.0), x + "up_proj.weight": ((EXPERT_WIDTH, HIDDEN), 1.0),
                    x + "down_proj.weight": ((HIDDEN, EXPERT_WIDTH), 4.0)}
    return out


def config():
    return {
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None,
        "decoder_sparse_step": 1, "eos_token_id": VOCAB - 1, "head_dim": HEAD_DIM, "hidden_act": "silu",
        "hidden_size": HIDDEN, "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": CONTEXT,
        "max_window_layers": LAYERS, "mlp_only_layers": [], "model_type": "qwen3_moe",
        "moe_intermediate_size": EXPERT_WIDTH, "norm_topk_prob": True, "num_attention_heads": HEADS,
        "num_experts": EXPERTS, "num_experts_per_tok": TOP_K, "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS, "output_router_logits": False, "pad_token_id": None, "rms_norm_eps": EPS,
        "rope_scaling": None, "rope_theta": THETA, "router_aux_loss_coef": 0.001, "sliding_window": None,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False,
        "vocab_size": VOCAB}


def prefill_flops(length):
    """Multiply-adds count two; causal attention's masked half does not count; logits of one row."""
    dense = HIDDEN * HEAD_DIM * (2 * HEADS + 2 * KV_HEADS) + HIDDEN * EXPERTS + TOP_K * 3 * HIDDEN * EXPERT_WIDTH
    attention = 2 * HEADS * HEAD_DIM * (length + 1) / 2
    return 2 * length * LAYERS * (dense + attention) + 2 * HIDDEN * VOCAB
