#include "device/ops.h"

#include <algorithm>

namespace longspan {

std::unique_ptr<EmbeddingTable> Ops::make_embedding(WeightView table) {
  return std::make_unique<EmbeddingTable>(table);
}

std::shared_ptr<const float[]> Ops::resident(std::span<const float> values) {
  const auto copy = std::make_shared<float[]>(values.size());
  std::copy(values.begin(), values.end(), copy.get());
  return copy;
}

}  // namespace longspan
