#include "device/cpu/tile_gemm.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace longspan {
namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kTileBytes = kTileRows * kPanel * 4;

// From this many rows on it pays to turn a panel into f32 once rather than as it is multiplied.
constexpr int64_t kConvertRows = 24;

}  // namespace

int64_t tile_scratch_bytes(const PackedMatrix& b) {
  const bool converts = b.arithmetic() == Arithmetic::kF32FromBf16;
  return kTileBytes + (converts ? b.k_padded() * kPanel * 4 : 0);
}

void multiply_tile(const CpuKernels& kernels, const PackedMatrix& b, const TileArgs& t, char* scratch) {
  check(t.rows <= kTileRows && t.columns <= kTilePanels * kPanel, "a tile has at most 128 rows and 2 panels");
  auto* last = reinterpret_cast<float*>(scratch);
  auto* converted = reinterpret_cast<float*>(scratch + kTileBytes);
  for (int64_t p = 0; p * kPanel < t.columns; ++p) {
    // A weight's last panel may be wider than c: it goes through scratch.
    const int64_t columns = std::min(kPanel, t.columns - p * kPanel);
    const bool direct = columns == kPanel;
    float* c = t.c + p * kPanel;
    GemmTile tile{.a = t.a,
                  .a_stride = t.a_stride,
                  .b = b.panel(t.panel + p),
                  .next = b.panel(t.panel + p + 1),
                  .next_bytes = t.panel + p + 1 < b.panels() ? b.panel_bytes() : 0,
                  .k = b.k_padded(),
                  .rows = t.rows,
                  .c = direct ? c : last,
                  .c_stride = direct ? t.c_stride : kPanel,
                  .accumulate = direct && t.accumulate};
    switch (b.arithmetic()) {
      case Arithmetic::kF32:
        kernels.gemm.f32(tile);
        break;
      case Arithmetic::kBf16:
        kernels.gemm.bf16(tile);
        break;
      case Arithmetic::kInt8:
        kernels.gemm.int8(tile);
        break;
      case Arithmetic::kF32FromBf16:
        if (t.rows < kConvertRows) {
          kernels.gemm.f32_from_bf16(tile);
        } else {
          kernels.rows.from_bf16(static_cast<const uint16_t*>(tile.b), tile.k * kPanel, converted);
          tile.b = converted;
          kernels.gemm.f32(tile);
        }
        break;
    }
    if (direct) continue;
    for (int64_t r = 0; r < t.rows; ++r) {
      if (t.accumulate)
        kernels.rows.add(last + r * kPanel, columns, c + r * t.c_stride);
      else
        std::memcpy(c + r * t.c_stride, last + r * kPanel, static_cast<size_t>(columns) * sizeof(float));
    }
  }
}

}  // namespace longspan
