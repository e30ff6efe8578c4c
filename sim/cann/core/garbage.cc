#include "core/garbage.h"

#include <random>

namespace cann_sim {

void spoil(void* data, size_t bytes, uint64_t seed) {
  if (seed == 0) return;
  std::mt19937_64 random(seed);
  auto* at = static_cast<unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) at[i] = static_cast<unsigned char>(random() >> 56);
}

void spoil(const View& view, uint64_t seed) {
  if (seed == 0) return;
  std::vector<char> noise(static_cast<size_t>(view.count() * size_of(view.dtype)));
  spoil(noise.data(), noise.size(), seed);
  store_bytes(view, noise);
}

}  // namespace cann_sim
