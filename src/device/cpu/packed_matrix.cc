#include "device/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

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

/// One panel [k_padded / group][64][group].
template <class T, int64_t group>
void pack_panel(const PackedMatrix::Column* columns, int64_t k, int64_t k_padded, T* panel) {
  T strip[kPanel][kStrip];
  for (int64_t k0 = 0; k0 < k_padded; k0 += kStrip) {
    load_strip(columns, k, k0, strip);
    for (int64_t i = 0; i < kStrip; i += group) {
      T* row = panel + (k0 + i) * kPanel;
      for (int64_t c = 0; c < kPanel; ++c)
        for (int64_t j = 0; j < group; ++j) row[c * group + j] = strip[c][i + j];
    }
  }
}

}  // namespace

int64_t PackedMatrix::bytes_for(int64_t panels, int64_t k, Arithmetic arithmetic) {
  return panels * kPanel * padded_inner(k) * (arithmetic == Arithmetic::kF32 ? 4 : 2);
}

PackedMatrix::PackedMatrix(int64_t panels, int64_t k, Arithmetic arithmetic,
                           const std::function<Column(int64_t)>& column)
    : arithmetic_(arithmetic),
      k_padded_(padded_inner(k)),
      panel_bytes_(bytes_for(1, k, arithmetic)),
      data_(bytes_for(panels, k, arithmetic)) {
  std::vector<Column> columns(static_cast<size_t>(panels * kPanel));
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = column(static_cast<int64_t>(i));
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t p = 0; p < panels; ++p) {
    const Column* sources = columns.data() + p * kPanel;
    char* out = data_.data() + p * panel_bytes_;
    switch (arithmetic_) {
      case Arithmetic::kF32:
        pack_panel<float, 1>(sources, k, k_padded_, reinterpret_cast<float*>(out));
        break;
      case Arithmetic::kF32FromBf16:
        pack_panel<uint16_t, 1>(sources, k, k_padded_, reinterpret_cast<uint16_t*>(out));
        break;
      case Arithmetic::kBf16:
        pack_panel<uint16_t, 2>(sources, k, k_padded_, reinterpret_cast<uint16_t*>(out));
        break;
    }
  }
}

}  // namespace longspan
