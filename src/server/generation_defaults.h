#pragma once

#include <longspan/request.h>

#include <filesystem>
#include <optional>
#include <string_view>

namespace longspan::server {

/// What a request gets for what it does not say: a model's generation_config.json where it says so, else what
/// OpenAI's API has (temperature 1, top_p 1). "do_sample": false means temperature 0.
struct GenerationDefaults {
  SamplingParams sampling{.temperature = 1};
  std::optional<int32_t> max_new_tokens;
};

/// Throws Error(kUnreadable) for a file that can't be read or holds a value that is none.
GenerationDefaults load_generation_defaults(const std::filesystem::path& model_folder);
/// The same from a text, which may be empty; `where` starts messages.
GenerationDefaults parse_generation_defaults(std::string_view json, std::string_view where);

}  // namespace longspan::server
