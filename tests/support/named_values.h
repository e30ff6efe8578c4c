#pragma once

#include <cstdint>
#include <string_view>

namespace longspan::testing_support {

/// What golden values are made of (tools/goldens): element i of a name is splitmix64(fnv1a64(name) + i).
inline uint64_t fnv1a64(std::string_view text) {
  uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return value;
}

inline uint64_t splitmix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace longspan::testing_support
