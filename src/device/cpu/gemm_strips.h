#pragma once

// Included by the kernels, which are compiled for different instruction sets: internal linkage throughout.

#include "device/cpu/gemm_kernels.h"

namespace longspan {
namespace {

constexpr int64_t kPanelColumns = 64;

/// A strip's share of the next panel: each step over k prefetches the line at `at` and goes on by `stride`.
struct NextPanel {
  const char* at;
  int64_t stride;  // bytes; most steps name a line again, which costs less than a branch
};

/// Block::run<R, N>(tile, row, column, next) multiplies R rows by N vectors of Block::kWidth columns; this
/// takes the block of `height` <= R rows.
template <class Block, int R, int N>
inline void gemm_strip(const GemmTile& t, int64_t row, int64_t height, int64_t column, NextPanel next) {
  if constexpr (R > 1) {
    if (height < R) return gemm_strip<Block, R - 1, N>(t, row, height, column, next);
  }
  Block::template run<R, N>(t, row, column, next);
}

/// Strips of at most R rows and nearly equal height.
template <class Block, int R, int N>
void gemm_panel(const GemmTile& t) {
  static_assert(kPanelColumns % (N * Block::kWidth) == 0);
  const int64_t strips = (t.rows + R - 1) / R;
  const int64_t runs = strips * kPanelColumns / (N * Block::kWidth);
  const int64_t steps = runs * (t.k / Block::kStep);
  NextPanel next{static_cast<const char*>(t.next_bytes > 0 ? t.next : t.b), (t.next_bytes + steps - 1) / steps};
  for (int64_t column = 0; column < kPanelColumns; column += N * Block::kWidth) {
    for (int64_t i = 0; i < strips; ++i) {
      const int64_t row = t.rows * i / strips;
      gemm_strip<Block, R, N>(t, row, t.rows * (i + 1) / strips - row, column, next);
      next.at += next.stride * (t.k / Block::kStep);
    }
  }
}

}  // namespace
}  // namespace longspan
