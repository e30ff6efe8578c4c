#include "server/generation_defaults.h"

#include <fmt/format.h>

#include <limits>

#include "server/api_error.h"
#include "server/json_fields.h"
#include "text/text_file.h"

namespace longspan::server {

using nlohmann::json;

GenerationDefaults parse_generation_defaults(std::string_view text, std::string_view where) {
  GenerationDefaults defaults;
  if (text.empty()) return defaults;
  SamplingParams& sampling = defaults.sampling;
  constexpr double kMaxFloat = std::numeric_limits<float>::max();
  constexpr double kLeast = std::numeric_limits<float>::min();
  try {
    const json object = parse_body(text);
    const auto read = [&](const char* name, const auto& use) {
      if (object.contains(name) && !object[name].is_null()) use(Field(name, object[name]));
    };
    read("temperature",
         [&](const Field& f) { sampling.temperature = static_cast<float>(f.number(0, kMaxFloat)); });
    read("top_p", [&](const Field& f) { sampling.top_p = static_cast<float>(f.number(kLeast, 1)); });
    read("top_k", [&](const Field& f) { sampling.top_k = static_cast<int32_t>(f.integer(0, kMax32)); });
    read("min_p", [&](const Field& f) { sampling.min_p = static_cast<float>(f.number(0, 1)); });
    read("repetition_penalty", [&](const Field& f) {
      sampling.repetition_penalty = static_cast<float>(f.number(kLeast, kMaxFloat));
    });
    read("do_sample", [&](const Field& f) {
      if (!f.boolean()) sampling.temperature = 0;
    });
    read("max_new_tokens",
         [&](const Field& f) { defaults.max_new_tokens = static_cast<int32_t>(f.integer(1, kMax32)); });
  } catch (const ApiError& error) {
    throw Error(ErrorCode::kUnreadable, fmt::format("{}: {}", where, error.message));
  }
  return defaults;
}

GenerationDefaults load_generation_defaults(const std::filesystem::path& model_folder) {
  const auto path = model_folder / "generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  return parse_generation_defaults(read_text_file(path), path.string());
}

}  // namespace longspan::server
