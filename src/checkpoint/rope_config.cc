#include "checkpoint/rope_config.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "checkpoint/json_text.h"

namespace longspan {
namespace {

using nlohmann::json;

constexpr int64_t kMaxPosition = int64_t{1} << 40;

void check_theta(const ConfigFields& fields, double theta) {
  if (theta <= 1) fields.fail(fmt::format("rope_theta must be greater than 1, it is {}", theta));
}

double read_factor(ConfigFields& fields) {
  const double factor = fields.required_number("factor");
  if (factor < 1) fields.fail(fmt::format("factor must be at least 1, it is {}", factor));
  return factor;
}

RopeScaling read_type(ConfigFields& fields) {
  const auto type = fields.text("rope_type");
  const auto old_type = fields.text("type");
  if (type && old_type && *type != *old_type) {
    fields.fail(fmt::format("rope_type {} and type {} contradict each other", in_quotes(*type),
                            in_quotes(*old_type)));
  }
  const std::string name = type ? *type : old_type.value_or("default");
  if (name == "default") return RopeScaling::kNone;
  if (name == "linear") return RopeScaling::kLinear;
  if (name == "llama3") return RopeScaling::kLlama3;
  if (name == "yarn") return RopeScaling::kYarn;
  fields.refuse(
      fmt::format("rope_type {} is not supported; default, linear, llama3 and yarn are", in_quotes(name)));
}

// transformers takes 0 for "not given" in these.
std::optional<double> nonzero(std::optional<double> value) {
  return value && *value != 0 ? value : std::nullopt;
}

void read_llama3(ConfigFields& fields, RopeConfig& rope) {
  rope.low_freq_factor = fields.required_number("low_freq_factor");
  rope.high_freq_factor = fields.required_number("high_freq_factor");
  if (rope.low_freq_factor <= 0 || rope.high_freq_factor <= rope.low_freq_factor) {
    fields.fail(fmt::format("0 < low_freq_factor < high_freq_factor must hold, they are {} and {}",
                            rope.low_freq_factor, rope.high_freq_factor));
  }
}

void read_yarn(ConfigFields& fields, RopeConfig& rope) {
  rope.beta_fast = nonzero(fields.number("beta_fast")).value_or(rope.beta_fast);
  rope.beta_slow = nonzero(fields.number("beta_slow")).value_or(rope.beta_slow);
  if (rope.beta_slow <= 0 || rope.beta_fast < rope.beta_slow) {
    fields.fail(fmt::format("0 < beta_slow <= beta_fast must hold, they are {} and {}", rope.beta_slow,
                            rope.beta_fast));
  }
  rope.attention_factor = fields.number("attention_factor");
  if (rope.attention_factor && *rope.attention_factor <= 0) {
    fields.fail(fmt::format("attention_factor must be greater than 0, it is {}", *rope.attention_factor));
  }
  rope.mscale = nonzero(fields.number("mscale"));
  rope.mscale_all_dim = nonzero(fields.number("mscale_all_dim"));
  for (const auto& scale : {rope.mscale, rope.mscale_all_dim}) {
    if (scale && *scale < 0)
      fields.fail(fmt::format("mscale and mscale_all_dim must be at least 0, one is {}", *scale));
  }
  rope.truncate = fields.boolean("truncate").value_or(true);
}

struct Defaults {
  std::optional<double> theta;               // of config.json itself
  std::optional<int64_t> original_position;  // of config.json itself
  int64_t max_position;
};

RopeConfig read_parameters(const json& object, const std::string& where, const Defaults& defaults) {
  ConfigFields fields(object, where);
  RopeConfig rope;
  rope.scaling = read_type(fields);
  if (const auto theta = fields.number("rope_theta")) {
    check_theta(fields, *theta);
    if (defaults.theta && *defaults.theta != *theta) {
      fields.fail(
          fmt::format("rope_theta {} contradicts config.json's rope_theta {}", *theta, *defaults.theta));
    }
    rope.theta = *theta;
  } else if (defaults.theta) {
    rope.theta = *defaults.theta;
  }
  if (const auto partial = fields.number("partial_rotary_factor"); partial && *partial != 1) {
    fields.refuse(fmt::format("partial_rotary_factor {} is not supported; 1 is", *partial));
  }
  if (rope.scaling != RopeScaling::kNone) rope.factor = read_factor(fields);
  if (rope.scaling == RopeScaling::kLlama3 || rope.scaling == RopeScaling::kYarn) {
    const auto original = fields.integer("original_max_position_embeddings", 1, kMaxPosition);
    if (original && defaults.original_position && *original != *defaults.original_position) {
      fields.fail(fmt::format("original_max_position_embeddings {} contradicts config.json's {}", *original,
                              *defaults.original_position));
    }
    rope.original_max_position =
        original ? *original : defaults.original_position.value_or(defaults.max_position);
  }
  if (rope.scaling == RopeScaling::kLlama3) read_llama3(fields, rope);
  if (rope.scaling == RopeScaling::kYarn) read_yarn(fields, rope);
  constexpr std::array<std::string_view, 1> kNoEffect = {"finetuned"};
  fields.ignore(kNoEffect);
  fields.refuse_others();
  return rope;
}

}  // namespace

RopeConfig read_rope(ConfigFields& config, int64_t max_position_embeddings) {
  const Defaults defaults{
      .theta = config.number("rope_theta"),
      .original_position = config.integer("original_max_position_embeddings", 1, kMaxPosition),
      .max_position = max_position_embeddings};
  if (defaults.theta) check_theta(config, *defaults.theta);
  if (const auto partial = config.number("partial_rotary_factor"); partial && *partial != 1) {
    config.refuse(fmt::format("partial_rotary_factor {} is not supported; 1 is", *partial));
  }

  std::optional<RopeConfig> rope;
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const json* object = config.find(name);
    if (!object) continue;
    const RopeConfig read = read_parameters(*object, fmt::format("{}: {}", config.where(), name), defaults);
    if (rope && *rope != read)
      config.fail("rope_parameters and rope_scaling contradict each other; keep one");
    rope = read;
  }
  if (rope) return *rope;
  RopeConfig plain;
  plain.theta = defaults.theta.value_or(plain.theta);
  return plain;
}

}  // namespace longspan
