#include "model/weights.h"

#include <fmt/format.h>
#include <longspan/error.h>

namespace longspan {
namespace {

class Loader {
 public:
  Loader(const ModelConfig& config, const Checkpoint& checkpoint, const RankSlice& slice, Ops& ops,
         PackedSlices& packed)
      : config_(config), checkpoint_(checkpoint), slice_(slice), ops_(ops), packed_(packed) {}

  std::vector<float> values(const std::string& name, int64_t size) const {
    const WeightView values_of = view(name, 1, size);
    std::vector<float> values(size);
    for (int64_t i = 0; i < size; ++i) values[i] = values_of.at(0, i);
    return values;
  }
  std::shared_ptr<const float[]> vector(const std::string& name, int64_t size) const {
    return ops_.resident(values(name, size));
  }

  std::shared_ptr<EmbeddingTable> embedding() const {
    const WeightView table = view("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
    if (!packed_.embedding) packed_.embedding = ops_.make_embedding(table);
    return packed_.embedding;
  }

  LayerWeights layer(int32_t index) const {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    const int64_t hidden = config_.hidden_size;
    LayerWeights layer;
    layer.input_norm = vector(prefix + "input_layernorm.weight", hidden);
    layer.post_attention_norm = vector(prefix + "post_attention_layernorm.weight", hidden);
    attention(prefix + "self_attn.", layer);
    if (config_.layer_is_moe[index]) {
      layer.moe = moe(prefix + "mlp.");
    } else {
      layer.mlp =
          mlp(prefix + "mlp.", config_.intermediate_size, slice_.mlp, config_.mlp_bias, slice_.leads_attn_tp);
    }
    return layer;
  }

  std::shared_ptr<LinearWeight> lm_head() const {
    const char* name = config_.tie_word_embeddings ? "model.embed_tokens" : "lm_head";
    return by_rows({{name, config_.vocab_size, slice_.vocab}}, config_.hidden_size, false,
                   LinearPrecision::kUnquantized);
  }

  WeightView view(const std::string& name, int64_t rows, int64_t cols) const {
    packed_.tensors.insert(name);
    return checkpoint_.view(name, rows, cols);
  }

 private:
  struct Part {
    std::string prefix;  // tensor name without ".weight"
    int64_t rows;        // of the whole tensor
    SliceRange wanted;
  };

  /// Output rows `wanted` of tensors stacked one above the other.
  std::shared_ptr<LinearWeight> by_rows(const std::vector<Part>& parts, int64_t cols, bool bias,
                                        LinearPrecision precision = LinearPrecision::kCompute) const {
    std::string key;
    for (const Part& part : parts)
      key += fmt::format("{} rows {}+{};", part.prefix, part.wanted.begin, part.wanted.count);
    return once(packed_.linear, key, [&] {
      std::vector<WeightView> weights, biases;
      for (const Part& part : parts) {
        weights.push_back(
            view(part.prefix + ".weight", part.rows, cols).slice_rows(part.wanted.begin, part.wanted.count));
        if (!bias) continue;
        biases.push_back(
            view(part.prefix + ".bias", 1, part.rows).slice_cols(part.wanted.begin, part.wanted.count));
      }
      return pack(weights, biases, precision);
    });
  }

  /// Input columns `wanted`: the products of a group's slices add up to the whole. One of them has the bias.
  std::shared_ptr<LinearWeight> by_cols(const std::string& prefix, int64_t rows, int64_t cols,
                                        SliceRange wanted, bool bias) const {
    const std::string key = fmt::format("{} cols {}+{}", prefix, wanted.begin, wanted.count);
    return once(packed_.linear, key, [&] {
      std::vector<WeightView> biases;
      if (bias) biases.push_back(view(prefix + ".bias", 1, rows));
      return pack({view(prefix + ".weight", rows, cols).slice_cols(wanted.begin, wanted.count)}, biases,
                  LinearPrecision::kCompute);
    });
  }

  std::shared_ptr<LinearWeight> pack(const std::vector<WeightView>& weights,
                                     const std::vector<WeightView>& biases, LinearPrecision precision) const {
    std::shared_ptr<LinearWeight> result = ops_.pack_linear(weights, biases, precision);
    for (const WeightView& view : weights) checkpoint_.drop_pages(view);
    return result;
  }

  template <class T, class Make>
  static std::shared_ptr<T> once(std::map<std::string, std::shared_ptr<T>>& packed, const std::string& key,
                                 Make make) {
    std::shared_ptr<T>& entry = packed[key];
    if (!entry) entry = make();
    return entry;
  }

  void attention(const std::string& prefix, LayerWeights& layer) const {
    const int64_t hidden = config_.hidden_size;
    const int64_t dim = config_.head_dim;
    const auto columns = [&](SliceRange heads) { return SliceRange{heads.begin * dim, heads.count * dim}; };
    const SliceRange q = columns(slice_.heads_q), kv = columns(slice_.heads_kv);
    const Part q_part = {prefix + "q_proj", config_.num_heads * dim, q};
    const Part k_part = {prefix + "k_proj", config_.num_kv_heads * dim, kv};
    const Part v_part = {prefix + "v_proj", config_.num_kv_heads * dim, kv};
    if (slice_.splits_qkv) {
      layer.q = by_rows({q_part}, hidden, config_.qkv_bias);
      layer.kv = by_rows({k_part, v_part}, hidden, config_.qkv_bias);
    } else {
      layer.qkv = by_rows({q_part, k_part, v_part}, hidden, config_.qkv_bias);
    }
    layer.o = by_cols(prefix + "o_proj", hidden, config_.num_heads * dim, q,
                      config_.o_bias && slice_.leads_attn_tp);
    if (config_.qk_norm) {
      const std::vector<float> q_norm = values(prefix + "q_norm.weight", dim);
      const std::vector<float> k_norm = values(prefix + "k_norm.weight", dim);
      layer.q_norm = ops_.resident(q_norm);
      layer.k_norm = ops_.resident(k_norm);
      if (layer.qkv && ops_.separates_qkv()) {
        std::vector<float> heads;
        for (int64_t head = 0; head < slice_.heads_q.count + slice_.heads_kv.count; ++head) {
          const std::vector<float>& norm = head < slice_.heads_q.count ? q_norm : k_norm;
          heads.insert(heads.end(), norm.begin(), norm.end());
        }
        layer.heads_norm = ops_.resident(heads);
      }
    }
  }

  std::unique_ptr<MlpWeights> mlp(const std::string& prefix, int64_t width, SliceRange wanted, bool bias,
                                  bool leads) const {
    const int64_t hidden = config_.hidden_size;
    auto mlp = std::make_unique<MlpWeights>();
    mlp->width = wanted.count;
    mlp->gate_up =
        by_rows({{prefix + "gate_proj", width, wanted}, {prefix + "up_proj", width, wanted}}, hidden, bias);
    mlp->down = by_cols(prefix + "down_proj", hidden, width, wanted, bias && leads);
    return mlp;
  }

  std::unique_ptr<MoeWeights> moe(const std::string& prefix) const {
    const int64_t hidden = config_.hidden_size;
    const SliceRange all_experts{0, config_.num_experts}, one{0, 1};
    auto moe = std::make_unique<MoeWeights>();
    moe->router =
        by_rows({{prefix + "gate", config_.num_experts, all_experts}}, hidden, false, LinearPrecision::kF32);
    moe->experts = experts(prefix);
    if (const int64_t width = config_.shared_expert_intermediate_size; width > 0 && slice_.adds_shared) {
      moe->shared = mlp(prefix + "shared_expert.", width, slice_.shared_width, false, true);
      moe->shared_gate =
          by_rows({{prefix + "shared_expert_gate", 1, one}}, hidden, false, LinearPrecision::kF32);
    }
    return moe;
  }

  std::shared_ptr<ExpertWeights> experts(const std::string& prefix) const {
    const int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
    const SliceRange columns = slice_.expert_width;
    const std::string key = fmt::format("{}experts {}+{} width {}+{}", prefix, slice_.experts.begin,
                                        slice_.experts.count, columns.begin, columns.count);
    return once(packed_.experts, key, [&] {
      std::vector<ExpertSource> sources;
      for (int64_t e = slice_.experts.begin; e < slice_.experts.end(); ++e) {
        const std::string expert = fmt::format("{}experts.{}.", prefix, e);
        const auto rows = [&](const char* name) {
          return view(expert + name, width, hidden).slice_rows(columns.begin, columns.count);
        };
        sources.push_back(
            {.gate = rows("gate_proj.weight"),
             .up = rows("up_proj.weight"),
             .down =
                 view(expert + "down_proj.weight", hidden, width).slice_cols(columns.begin, columns.count)});
      }
      auto result = ops_.pack_experts(sources, static_cast<int32_t>(slice_.experts.begin), [&](size_t e) {
        for (const WeightView& view : {sources[e].gate, sources[e].up, sources[e].down})
          checkpoint_.drop_pages(view);
      });
      result->of_layer = config_.num_experts;
      return result;
    });
  }

  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  const RankSlice& slice_;
  Ops& ops_;
  PackedSlices& packed_;
};

int64_t bytes_of(const LayerWeights& layer) {
  int64_t bytes = (layer.qkv ? layer.qkv->bytes : layer.q->bytes + layer.kv->bytes) + layer.o->bytes;
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

int64_t PackedSlices::bytes() const {
  int64_t bytes = embedding ? embedding->bytes : 0;
  for (const auto& [key, weight] : linear) bytes += weight->bytes;
  for (const auto& [key, weight] : experts) bytes += weight->bytes;
  return bytes;
}

ModelWeights load_weights(const ModelConfig& config, const Checkpoint& checkpoint, const RankSlice& slice,
                          Ops& ops, PackedSlices& packed) {
  const Loader loader(config, checkpoint, slice, ops, packed);
  ModelWeights weights;
  weights.slice = slice;
  weights.embedding = loader.embedding();
  weights.bytes += weights.embedding->bytes;
  for (int32_t i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back(loader.layer(i));
    weights.bytes += bytes_of(weights.layers.back());
  }
  weights.final_norm = loader.vector("model.norm.weight", config.hidden_size);
  weights.lm_head = loader.lm_head();
  weights.bytes += weights.lm_head->bytes;
  return weights;
}

void refuse_unread_tensors(const ModelConfig& config, const Checkpoint& checkpoint,
                           const PackedSlices& packed) {
  std::vector<std::string> unread;
  for (const std::string& name : checkpoint.names()) {
    // Frequencies follow from the config; a tied lm_head repeats the embedding.
    const bool redundant =
        name.ends_with("rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight");
    if (!redundant && !packed.tensors.contains(name)) unread.push_back(name);
  }
  if (unread.empty()) return;
  throw Error(ErrorCode::kUnreadable,
              fmt::format("the checkpoint holds {} tensor{} that its config.json has no use for, e.g. '{}'; "
                          "computing without would change the model: do config.json and weights belong "
                          "together?",
                          unread.size(), unread.size() == 1 ? "" : "s", unread.front()));
}

}  // namespace longspan
