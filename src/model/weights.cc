#include "model/weights.h"

#include <fmt/format.h>

#include <array>

namespace longspan {
namespace {

class Loader {
 public:
  Loader(const ModelConfig& config, const Checkpoint& checkpoint, Ops& ops)
      : config_(config), checkpoint_(checkpoint), ops_(ops) {}

  std::vector<float> vector(const std::string& name, int64_t size) const {
    const WeightView view = checkpoint_.view(name, 1, size);
    std::vector<float> values(size);
    for (int64_t i = 0; i < size; ++i) values[i] = view.at(0, i);
    return values;
  }

  struct Part {
    std::string prefix;  // tensor name without ".weight"
    int64_t rows;
  };

  std::unique_ptr<LinearWeight> linear(const std::vector<Part>& parts, int64_t cols, bool bias,
                                       LinearPrecision precision = LinearPrecision::kCompute) const {
    std::vector<WeightView> weights, biases;
    for (const Part& part : parts) {
      weights.push_back(checkpoint_.view(part.prefix + ".weight", part.rows, cols));
      if (bias) biases.push_back(checkpoint_.view(part.prefix + ".bias", 1, part.rows));
    }
    auto packed = ops_.pack_linear(weights, biases, precision);
    for (const WeightView& view : weights) checkpoint_.drop_pages(view);
    return packed;
  }

  std::unique_ptr<MlpWeights> mlp(const std::string& prefix, int64_t width, bool bias) const {
    const int64_t hidden = config_.hidden_size;
    auto mlp = std::make_unique<MlpWeights>();
    mlp->width = width;
    mlp->gate_up = linear({{prefix + "gate_proj", width}, {prefix + "up_proj", width}}, hidden, bias);
    mlp->down = linear({{prefix + "down_proj", hidden}}, width, bias);
    return mlp;
  }

  std::unique_ptr<MoeWeights> moe(const std::string& prefix) const {
    const int64_t hidden = config_.hidden_size;
    const int64_t width = config_.moe_intermediate_size;
    auto moe = std::make_unique<MoeWeights>();
    moe->router = linear({{prefix + "gate", config_.num_experts}}, hidden, false, LinearPrecision::kF32);
    std::vector<ExpertSource> experts;
    for (int32_t e = 0; e < config_.num_experts; ++e) {
      const std::string expert = fmt::format("{}experts.{}.", prefix, e);
      experts.push_back({.gate = checkpoint_.view(expert + "gate_proj.weight", width, hidden),
                         .up = checkpoint_.view(expert + "up_proj.weight", width, hidden),
                         .down = checkpoint_.view(expert + "down_proj.weight", hidden, width)});
    }
    moe->experts = ops_.pack_experts(experts, 0, [&](size_t e) {
      for (const WeightView& view : {experts[e].gate, experts[e].up, experts[e].down})
        checkpoint_.drop_pages(view);
    });
    if (config_.shared_expert_intermediate_size > 0) {
      moe->shared = mlp(prefix + "shared_expert.", config_.shared_expert_intermediate_size, false);
      moe->shared_gate = linear({{prefix + "shared_expert_gate", 1}}, hidden, false, LinearPrecision::kF32);
    }
    return moe;
  }

  LayerWeights layer(int32_t index) const {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    const std::string attention = prefix + "self_attn.";
    const int64_t hidden = config_.hidden_size;
    const int64_t dim = config_.head_dim;
    LayerWeights layer;
    layer.input_norm = vector(prefix + "input_layernorm.weight", hidden);
    layer.post_attention_norm = vector(prefix + "post_attention_layernorm.weight", hidden);
    layer.qkv = linear({{attention + "q_proj", config_.num_heads * dim},
                        {attention + "k_proj", config_.num_kv_heads * dim},
                        {attention + "v_proj", config_.num_kv_heads * dim}},
                       hidden, config_.qkv_bias);
    layer.o = linear({{attention + "o_proj", hidden}}, config_.num_heads * dim, config_.o_bias);
    if (config_.qk_norm) {
      layer.q_norm = vector(attention + "q_norm.weight", dim);
      layer.k_norm = vector(attention + "k_norm.weight", dim);
    }
    if (config_.layer_is_moe[index]) {
      layer.moe = moe(prefix + "mlp.");
    } else {
      layer.mlp = mlp(prefix + "mlp.", config_.intermediate_size, config_.mlp_bias);
    }
    return layer;
  }

 private:
  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  Ops& ops_;
};

int64_t bytes_of(const LayerWeights& layer) {
  int64_t bytes = layer.qkv->bytes + layer.o->bytes;
  if (layer.mlp) bytes += layer.mlp->gate_up->bytes + layer.mlp->down->bytes;
  if (layer.moe) {
    bytes += layer.moe->router->bytes + layer.moe->experts->bytes;
    if (layer.moe->shared) {
      bytes +=
          layer.moe->shared->gate_up->bytes + layer.moe->shared->down->bytes + layer.moe->shared_gate->bytes;
    }
  }
  return bytes;
}

}  // namespace

ModelWeights load_weights(const ModelConfig& config, const Checkpoint& checkpoint, Ops& ops) {
  const Loader loader(config, checkpoint, ops);
  const std::string embedding = "model.embed_tokens";
  ModelWeights weights;
  weights.embedding = checkpoint.view(embedding + ".weight", config.vocab_size, config.hidden_size);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back(loader.layer(i));
    weights.bytes += bytes_of(weights.layers.back());
  }
  weights.final_norm = loader.vector("model.norm.weight", config.hidden_size);
  weights.lm_head = loader.linear({{config.tie_word_embeddings ? embedding : "lm_head", config.vocab_size}},
                                  config.hidden_size, false);
  weights.bytes += weights.lm_head->bytes;
  return weights;
}

}  // namespace longspan
