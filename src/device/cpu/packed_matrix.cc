#include "device/cpu/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "device/int8.h"

namespace longspan {
namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kStrip = 32;  // inner elements transposed at a time: the strip of 64 rows stays in L1

/// kStrip elements of each column from inner index k0 on, as T, zero where there is no source.
template <class T>
void load_strip(const PackedMatrix::Column* columns, int64_t k, int64_t k0, T (&strip)[kPanel][kStrip]) {
  const int64_t count = std::clamp<int64_t>(k - k0, 0, kStrip);
  for (int64_t c = 0; c < kPanel; ++c) {
    const PackedMatrix::Column& source = columns[c];
    constexpr bool to_f32 = sizeof(T) == 4;
    const int64_t present = source.data == nullptr ? 0 : count;
    if (source.dtype == (to_f32 ? DType::kF32 : DType::kBF16)) {
      if (present > 0)
        std::memcpy(strip[c], static_cast<const T*>(source.data) + k0,
                    static_cast<size_t>(present) * sizeof(T));
    } else {
      for (int64_t i = 0; i < present; ++i) {
        const float value = load_f32(source.data, source.dtype, k0 + i);
        if constexpr (to_f32)
          strip[c][i] = value;
        else
          strip[c][i] = f32_to_bf16(value);
      }
    }
    std::fill(strip[c] + present, strip[c] + kStrip, T{});
  }
}

/// One panel [k_padded / group][64][group], moved a whole group (one Word) at a time.
template <class Word, class T, int64_t group>
void pack_panel(const PackedMatrix::Column* columns, int64_t k, int64_t k_padded, void* panel) {
  static_assert(sizeof(Word) == group * sizeof(T));
  alignas(64) T strip[kPanel][kStrip];
  for (int64_t k0 = 0; k0 < k_padded; k0 += kStrip) {
    load_strip(columns, k, k0, strip);
    for (int64_t i = 0; i < kStrip / group; ++i) {
      alignas(64) Word row[kPanel];
      for (int64_t c = 0; c < kPanel; ++c) std::memcpy(&row[c], &strip[c][i * group], sizeof(Word));
      std::memcpy(static_cast<Word*>(panel) + (k0 / group + i) * kPanel, row, sizeof(row));
    }
  }
}

constexpr int64_t kColumnBytes = sizeof(float) + sizeof(int32_t);  // int8: scale and sum

void quantize_panel(const PackedMatrix::Column* columns, int64_t k, int64_t k_padded, int8_t* panel) {
  auto* scales = reinterpret_cast<float*>(panel + k_padded * kPanel);
  auto* sums = reinterpret_cast<int32_t*>(scales + kPanel);
  std::vector<float> row(static_cast<size_t>(k));
  for (int64_t c = 0; c < kPanel; ++c) {
    float max = 0;
    bool finite = true;
    for (int64_t i = 0; i < k; ++i) {
      float& value = row[static_cast<size_t>(i)];
      value = columns[c].data ? load_f32(columns[c].data, columns[c].dtype, i) : 0.0f;
      max = std::max(max, std::abs(value));
      finite = finite && std::isfinite(value);
    }
    if (!finite) std::fill(row.begin(), row.end(), 0.0f);
    const float inverse = max < kLeastQuantized ? 0.0f : 127.0f / max;
    scales[c] = !finite ? NAN : max < kLeastQuantized ? 0.0f : max / 127.0f;
    int32_t sum = 0;
    for (int64_t i = 0; i < k_padded; ++i) {
      const float scaled = i < k ? row[static_cast<size_t>(i)] * inverse : 0.0f;
      const auto q = static_cast<int8_t>(std::clamp(std::nearbyint(scaled), -127.0f, 127.0f));
      panel[i / 4 * 4 * kPanel + c * 4 + i % 4] = q;
      sum += q;
    }
    sums[c] = 128 * sum;
  }
}

}  // namespace

int64_t PackedMatrix::bytes_for(int64_t panels, int64_t k, Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::kInt8) return panels * kPanel * (padded_inner(k) + kColumnBytes);
  return panels * kPanel * padded_inner(k) * (arithmetic == Arithmetic::kF32 ? 4 : 2);
}

PackedMatrix::PackedMatrix(int64_t panels, int64_t k, Arithmetic arithmetic)
    : arithmetic_(arithmetic),
      k_(k),
      k_padded_(padded_inner(k)),
      panel_bytes_(bytes_for(1, k, arithmetic)),
      data_(bytes_for(panels, k, arithmetic)) {
  check(arithmetic != Arithmetic::kInt8 || k <= kMostQuantizedInner, "int8 sums take up to 131072 elements");
}

void PackedMatrix::pack(int64_t first, int64_t panels, const std::function<Column(int64_t)>& column) {
  std::vector<Column> columns(static_cast<size_t>(panels * kPanel));
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = column(static_cast<int64_t>(i));
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t p = 0; p < panels; ++p) {
    const Column* sources = columns.data() + p * kPanel;
    char* out = data_.data() + (first + p) * panel_bytes_;
    switch (arithmetic_) {
      case Arithmetic::kF32:
        pack_panel<uint32_t, float, 1>(sources, k_, k_padded_, out);
        break;
      case Arithmetic::kF32FromBf16:
        pack_panel<uint16_t, uint16_t, 1>(sources, k_, k_padded_, out);
        break;
      case Arithmetic::kBf16:
        pack_panel<uint32_t, uint16_t, 2>(sources, k_, k_padded_, out);
        break;
      case Arithmetic::kInt8:
        quantize_panel(sources, k_, k_padded_, reinterpret_cast<int8_t*>(out));
        break;
    }
  }
}

}  // namespace longspan
