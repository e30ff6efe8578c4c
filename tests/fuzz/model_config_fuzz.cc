#include <longspan/error.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "checkpoint/model_config.h"

// A config.json; after a zero byte, if there is one, a generation_config.json. Only Error may come out, never
// kInternal; what is accepted must be usable.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t cut = text.find('\0');
  try {
    const longspan::ModelConfig config = longspan::parse_model_config(
        text.substr(0, cut), cut == text.npos ? std::string_view() : text.substr(cut + 1));
    const bool usable = config.num_layers > 0 && config.num_kv_heads > 0 && config.head_dim > 0 &&
                        config.num_heads % config.num_kv_heads == 0 && config.head_dim % 2 == 0 &&
                        config.vocab_size > 0 && config.hidden_size > 0 && config.context_length > 0 &&
                        config.num_experts_per_tok <= config.num_experts &&
                        config.layer_is_moe.size() == static_cast<size_t>(config.num_layers);
    if (!usable) std::abort();
  } catch (const longspan::Error& error) {
    if (error.code() == longspan::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
