#pragma once

#include <cstddef>
#include <cstdint>

#include "core/view.h"

namespace cann_sim {

/// Noise that depends on the seed alone, in place of what was written; seed 0 leaves it.
void spoil(void* data, size_t bytes, uint64_t seed);
/// The elements of a view on a device.
void spoil(const View& view, uint64_t seed);

}  // namespace cann_sim
