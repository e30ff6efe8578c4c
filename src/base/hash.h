#pragma once

#include <cstdint>
#include <string_view>

namespace longspan {

/// FNV-1a, 64 bits: to tell one text from another, not against anybody who wants to be taken for another.
/// `so_far` is the hash of what came before.
constexpr uint64_t fnv1a64(std::string_view text, uint64_t so_far = 0xcbf29ce484222325u) {
  for (const char c : text) so_far = (so_far ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return so_far;
}

}  // namespace longspan
