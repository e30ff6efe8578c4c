#include "checkpoint/model_config.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "checkpoint/config_fields.h"
#include "checkpoint/json_text.h"
#include "checkpoint/known_fields.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/rope_config.h"

namespace longspan {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = 16 << 20;
// Far above any model, and low enough that products of two sizes fit an int64_t.
constexpr int64_t kMaxSize = int64_t{1} << 30;
constexpr int64_t kMaxLayers = 1 << 14;
constexpr int64_t kMaxHeads = 1 << 14;
constexpr int64_t kMaxHeadDim = 1 << 14;
constexpr int64_t kMaxExperts = 1 << 16;
constexpr int64_t kMaxTokenId = (int64_t{1} << 31) - 1;

struct Family {
  const char* architecture;
  const char* model_type;
  Architecture id;
  bool moe;
  bool qwen;
};

constexpr std::array<Family, 5> kFamilies = {{
    {"Qwen3MoeForCausalLM", "qwen3_moe", Architecture::kQwen3Moe, true, true},
    {"Qwen3ForCausalLM", "qwen3", Architecture::kQwen3, false, true},
    {"Qwen2MoeForCausalLM", "qwen2_moe", Architecture::kQwen2Moe, true, true},
    {"Qwen2ForCausalLM", "qwen2", Architecture::kQwen2, false, true},
    {"LlamaForCausalLM", "llama", Architecture::kLlama, false, false},
}};

const Family& read_family(ConfigFields& fields) {
  const auto architectures = fields.texts("architectures");
  const auto known = [](const auto& name_of) {
    std::string names;
    for (const Family& family : kFamilies)
      names += (names.empty() ? "" : ", ") + std::string(name_of(family));
    return names;
  };
  const std::string names = known([](const Family& family) { return family.architecture; });
  if (!architectures || architectures->size() != 1) {
    fields.fail(fmt::format("field 'architectures' must name one architecture of {}", names));
  }
  const std::string& name = architectures->front();
  const auto family = std::find_if(kFamilies.begin(), kFamilies.end(),
                                   [&](const Family& candidate) { return candidate.architecture == name; });
  if (family == kFamilies.end()) {
    fields.fail(fmt::format("unknown architecture {}; known are {}", in_quotes(name), names));
  }
  const auto type = fields.text("model_type");
  if (type && *type != family->model_type) {
    fields.fail(fmt::format("model_type {} contradicts architecture '{}', whose model_type is '{}'",
                            in_quotes(*type), name, family->model_type));
  }
  return *family;
}

void read_sizes(ConfigFields& fields, ModelConfig& config, const Family& family) {
  config.vocab_size = fields.required_integer("vocab_size", 1, kMaxTokenId);
  config.hidden_size = fields.required_integer("hidden_size", 1, kMaxSize);
  config.num_layers = static_cast<int32_t>(fields.required_integer("num_hidden_layers", 1, kMaxLayers));
  config.num_heads = static_cast<int32_t>(fields.required_integer("num_attention_heads", 1, kMaxHeads));
  // Old Llama files leave the kv heads out and mean one for every query head.
  const auto kv_heads = fields.integer("num_key_value_heads", 1, kMaxHeads);
  if (!kv_heads && family.moe) {
    fields.fail(fmt::format("field 'num_key_value_heads' is missing; it must divide num_attention_heads {}",
                            config.num_heads));
  }
  config.num_kv_heads = static_cast<int32_t>(kv_heads.value_or(config.num_heads));
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.fail(fmt::format("num_attention_heads {} must be a multiple of num_key_value_heads {}",
                            config.num_heads, config.num_kv_heads));
  }

  const auto head_dim = fields.integer("head_dim", 1, kMaxHeadDim);
  if (head_dim) {
    config.head_dim = static_cast<int32_t>(*head_dim);
  } else if (family.id == Architecture::kQwen3) {
    config.head_dim = 128;
  } else if (config.hidden_size % config.num_heads == 0 &&
             config.hidden_size / config.num_heads <= kMaxHeadDim) {
    config.head_dim = static_cast<int32_t>(config.hidden_size / config.num_heads);
  } else {
    fields.fail(
        fmt::format("without head_dim, hidden_size {} must be a multiple (at most {}-fold) of "
                    "num_attention_heads {}; give head_dim",
                    config.hidden_size, kMaxHeadDim, config.num_heads));
  }
  if (config.head_dim % 2 != 0) {
    fields.fail(fmt::format("head_dim must be even (rotary pairs), it is {}; the nearest are {} and {}",
                            config.head_dim, config.head_dim - 1, config.head_dim + 1));
  }
  config.rms_norm_eps = fields.number("rms_norm_eps").value_or(config.rms_norm_eps);
  if (config.rms_norm_eps < 0 || config.rms_norm_eps >= 1) {
    fields.fail(fmt::format("rms_norm_eps must be in [0, 1), it is {}", config.rms_norm_eps));
  }
}

void read_biases(ConfigFields& fields, ModelConfig& config, Architecture id) {
  switch (id) {
    case Architecture::kQwen3Moe:
    case Architecture::kQwen3:
      config.qk_norm = true;
      config.qkv_bias = config.o_bias = fields.boolean("attention_bias").value_or(false);
      break;
    case Architecture::kQwen2Moe:
      config.qkv_bias = fields.boolean("qkv_bias").value_or(true);
      break;
    case Architecture::kQwen2:
      config.qkv_bias = true;
      break;
    case Architecture::kLlama:
      config.qkv_bias = config.o_bias = fields.boolean("attention_bias").value_or(false);
      config.mlp_bias = fields.boolean("mlp_bias").value_or(false);
      break;
  }
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings").value_or(false);
}

// The name transformers 4 writes and the one transformers 5 writes.
int64_t read_expert_count(ConfigFields& fields) {
  const auto experts = fields.integer("num_experts", 0, kMaxExperts);
  const auto local = fields.integer("num_local_experts", 0, kMaxExperts);
  if (experts && local && *experts != *local) {
    fields.fail(
        fmt::format("num_experts {} and num_local_experts {} contradict each other", *experts, *local));
  }
  if (!experts && !local) {
    fields.fail(
        fmt::format("field 'num_experts' (or 'num_local_experts') is missing; it must be a whole number "
                    "from 0 to {}",
                    kMaxExperts));
  }
  return experts ? *experts : *local;
}

void read_experts(ConfigFields& fields, ModelConfig& config) {
  const int64_t step = fields.integer("decoder_sparse_step", 1, kMaxSize).value_or(1);
  const auto dense =
      fields.integers("mlp_only_layers", 0, config.num_layers - 1).value_or(std::vector<int64_t>());
  config.norm_topk_prob = fields.boolean("norm_topk_prob").value_or(false);
  config.num_experts = static_cast<int32_t>(read_expert_count(fields));
  const bool needs_experts = config.num_experts > 0;

  const auto size = [&](const char* name, int64_t min, int64_t max) {
    if (needs_experts) return fields.required_integer(name, min, max);
    fields.integer(name, min, max);
    return int64_t{0};
  };
  config.num_experts_per_tok = static_cast<int32_t>(size("num_experts_per_tok", 1, kMaxExperts));
  config.moe_intermediate_size = size("moe_intermediate_size", 1, kMaxSize);
  if (config.architecture == Architecture::kQwen2Moe) {
    config.shared_expert_intermediate_size = size("shared_expert_intermediate_size", 0, kMaxSize);
  }
  if (needs_experts && config.num_experts_per_tok > config.num_experts) {
    fields.fail(fmt::format("num_experts_per_tok {} must be at most the number of experts {}",
                            config.num_experts_per_tok, config.num_experts));
  }
  for (int32_t i = 0; i < config.num_layers; ++i) {
    config.layer_is_moe[i] =
        needs_experts && (i + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end();
  }
}

void read_mlp(ConfigFields& fields, ModelConfig& config, bool moe) {
  config.layer_is_moe.assign(config.num_layers, false);
  if (moe) read_experts(fields, config);
  const auto width = fields.integer("intermediate_size", 1, kMaxSize);
  const bool all_moe =
      std::find(config.layer_is_moe.begin(), config.layer_is_moe.end(), false) == config.layer_is_moe.end();
  if (!width && !all_moe) fields.required_integer("intermediate_size", 1, kMaxSize);
  config.intermediate_size = width.value_or(0);
}

void read_positions(ConfigFields& fields, ModelConfig& config) {
  const int64_t positions = fields.required_integer("max_position_embeddings", 1, kMaxSize);
  config.rope = read_rope(fields, positions);
  config.context_length = positions;
  if (config.rope.scaling == RopeScaling::kYarn) {
    const double stretched = static_cast<double>(config.rope.original_max_position) * config.rope.factor;
    if (stretched > static_cast<double>(kMaxSize)) {
      fields.fail(fmt::format("original_max_position_embeddings {} times factor {} exceeds {}",
                              config.rope.original_max_position, config.rope.factor, kMaxSize));
    }
    config.context_length = std::max(positions, static_cast<int64_t>(stretched));
  }
}

// Which layers transformers would give a sliding window; any that has one which hides a key is refused.
void check_windows(ConfigFields& fields, const ModelConfig& config, const Family& family) {
  const auto types = fields.texts("layer_types");
  if (types && std::ssize(*types) != config.num_layers) {
    fields.fail(
        fmt::format("layer_types has {} entries, num_hidden_layers is {}", types->size(), config.num_layers));
  }
  for (const std::string& type : types.value_or(std::vector<std::string>())) {
    if (type != "full_attention" && type != "sliding_attention") {
      fields.refuse(fmt::format("layer type {} is not supported; 'full_attention' is", in_quotes(type)));
    }
  }
  bool windowed = types && std::find(types->begin(), types->end(), "sliding_attention") != types->end();
  std::optional<int64_t> window;
  if (family.qwen) {
    window = fields.integer("sliding_window", 0, int64_t{1} << 40);
    const bool in_use = fields.boolean("use_sliding_window").value_or(false) && window.value_or(0) > 0;
    const int64_t first = fields.integer("max_window_layers", 0, kMaxSize).value_or(28);
    if (!types && in_use) windowed = family.moe || first < config.num_layers;
    if (family.id == Architecture::kQwen3Moe && in_use) windowed = true;
  }
  if (windowed && window.value_or(0) < config.context_length) {
    fields.refuse(
        fmt::format("sliding_window {} is in use and shorter than the context of {} tokens, which is not "
                    "supported; only full attention is (use_sliding_window false)",
                    window ? std::to_string(*window) : "null", config.context_length));
  }
}

DType read_dtype(ConfigFields& fields) {
  const auto name = fields.text("dtype");
  const auto old_name = fields.text("torch_dtype");
  if (name && old_name && *name != *old_name) {
    fields.fail(fmt::format("dtype {} and torch_dtype {} contradict each other", in_quotes(*name),
                            in_quotes(*old_name)));
  }
  const std::string value = name ? *name : old_name.value_or("float32");
  if (value == "bfloat16") return DType::kBF16;
  if (value == "float16") return DType::kF16;
  if (value == "float32") return DType::kF32;
  fields.refuse(
      fmt::format("dtype {} is not supported; bfloat16, float16 and float32 are", in_quotes(value)));
}

// One id or a list of them; empty if the field is absent.
std::vector<int32_t> read_token_ids(ConfigFields& fields, const char* name, int64_t vocab_size) {
  const json* value = fields.find(name);
  if (!value) return {};
  std::vector<int64_t> ids;
  if (value->is_array()) {
    ids = *fields.integers(name, 0, vocab_size - 1);
  } else {
    ids.push_back(*fields.integer(name, 0, vocab_size - 1));
  }
  return {ids.begin(), ids.end()};
}

void read_special_tokens(ConfigFields& fields, ConfigFields* generation, ModelConfig& config) {
  for (ConfigFields* source : {&fields, generation}) {
    if (!source) continue;
    if (auto eos = read_token_ids(*source, "eos_token_id", config.vocab_size); !eos.empty()) {
      config.eos_token_ids = std::move(eos);
    }
    const auto bos = source->integer("bos_token_id", 0, config.vocab_size - 1);
    if (bos) config.bos_token_id = static_cast<int32_t>(*bos);
  }
}

ModelConfig parse(std::string_view config_json, std::string_view generation_json, const std::string& where,
                  const std::string& generation_where) {
  const json root = parse_json(config_json, where);
  ConfigFields fields(root, where);
  const Family& family = read_family(fields);
  refuse_quantised(fields);
  refuse_unbuilt(fields);

  ModelConfig config;
  config.architecture = family.id;
  config.architecture_name = family.architecture;
  read_sizes(fields, config, family);
  read_biases(fields, config, family.id);
  read_mlp(fields, config, family.moe);
  read_positions(fields, config);
  check_windows(fields, config, family);
  config.dtype = read_dtype(fields);

  const json generation_root =
      generation_json.empty() ? json() : parse_json(generation_json, generation_where);
  std::optional<ConfigFields> generation;
  if (!generation_json.empty()) generation.emplace(generation_root, generation_where);
  read_special_tokens(fields, generation ? &*generation : nullptr, config);

  ignore_known_fields(fields);
  fields.refuse_others();
  return config;
}

}  // namespace

ModelConfig parse_model_config(std::string_view config_json, std::string_view generation_json) {
  return parse(config_json, generation_json, "config.json", "generation_config.json");
}

ModelConfig load_model_config(const std::filesystem::path& folder) {
  require_model_folder(folder);
  const auto path = folder / "config.json";
  const auto generation_path = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) fail_incomplete_folder(folder, "config.json");
  const std::string text = read_text_file(path, kMaxConfigBytes);
  const std::string generation = std::filesystem::exists(generation_path, error)
                                     ? read_text_file(generation_path, kMaxConfigBytes)
                                     : std::string();
  return parse(text, generation, path.string(), generation_path.string());
}

}  // namespace longspan
