#pragma once

#include <cstdint>

#include "device/cpu/attention_rows.h"

namespace longspan {
namespace {

/// Calls f.template run<R, N>(row, column) over a grid of `rows` x `columns` in strips of at most kRows rows
/// of nearly equal height and kColumns columns; the columns' operand stays in L1 while the strips pass.
template <int kRows, int kColumns, class F>
inline void for_each_strip(int32_t rows, int32_t columns, const F& f) {
  static_assert(kRows <= 6 && kColumns <= 4);
  const int32_t strips = (rows + kRows - 1) / kRows;
  for (int32_t column = 0; column < columns; column += kColumns) {
    const int32_t n = at_most(kColumns, columns - column);
    for (int32_t i = 0; i < strips; ++i) {
      const int32_t row = rows * i / strips, height = rows * (i + 1) / strips - row;
      const auto with_height = [&]<int N>() {
        switch (height) {
          case 1:
            return f.template run<1, N>(row, column);
          case 2:
            return f.template run<at_most(2, kRows), N>(row, column);
          case 3:
            return f.template run<at_most(3, kRows), N>(row, column);
          case 4:
            return f.template run<at_most(4, kRows), N>(row, column);
          case 5:
            return f.template run<at_most(5, kRows), N>(row, column);
          default:
            return f.template run<at_most(6, kRows), N>(row, column);
        }
      };
      switch (n) {
        case 1:
          with_height.template operator()<1>();
          break;
        case 2:
          with_height.template operator()<at_most(2, kColumns)>();
          break;
        case 3:
          with_height.template operator()<at_most(3, kColumns)>();
          break;
        default:
          with_height.template operator()<at_most(4, kColumns)>();
          break;
      }
    }
  }
}

/// A kernel that takes all rows of a tile through a block of keys at once. Arch gives:
///   V, kMaxRows; Query, the type of packed queries; Weights, see RowSoftmax;
///   query_columns(dk), in Query;  pack_row(q, dk, scale, packed);
///   kFetchesAhead: two blocks fit in L2 beside the rest;
///   block_bytes(dk, dv), prepare(tile, block, space): brings a block into the form of the multiplies;
///   scores(q, rows, dk, block, s);  weighted_sum(p, rows, dv16, block, decay, o).
template <class Arch>
struct TileBody {
  using V = typename Arch::V;
  using Query = typename Arch::Query;
  using Weight = typename Arch::Weights::Weight;
  using Softmax = RowSoftmax<V, typename Arch::Weights>;

  struct Scratch {
    Query* q;      // [kMaxRows, query_columns(dk)]
    float* s;      // [kMaxRows, KeyBlock::kKeys] scores, base 2
    Weight* p;     // [kMaxRows, KeyBlock::kKeys]
    float* sums;   // [kMaxRows, 16]
    float* decay;  // [kMaxRows]
    char* block;   // block_bytes
    int64_t bytes;
  };

  static Scratch layout(char* base, int32_t dk, int32_t dv) {
    Scratch s{};
    int64_t used = 0;
    const auto take = [&](int64_t bytes) {
      char* result = base == nullptr ? nullptr : base + used;
      used += round_up_bytes(bytes);
      return result;
    };
    constexpr int64_t kRows = Arch::kMaxRows;
    constexpr int64_t kQueryBytes = sizeof(Query), kWeightBytes = sizeof(Weight);
    s.q = reinterpret_cast<Query*>(take(kRows * Arch::query_columns(dk) * kQueryBytes));
    s.s = reinterpret_cast<float*>(take(kRows * KeyBlock::kKeys * 4));
    s.p = reinterpret_cast<Weight*>(take(kRows * KeyBlock::kKeys * kWeightBytes));
    s.sums = reinterpret_cast<float*>(take(kRows * kPanelKeys * 4));
    s.decay = reinterpret_cast<float*>(take(kRows * 4));
    s.block = take(Arch::block_bytes(dk, dv));
    s.bytes = used;
    return s;
  }

  static int64_t scratch_bytes(int32_t dk, int32_t dv) { return layout(nullptr, dk, dv).bytes; }

  static void pack_queries(const AttentionTile& tile, void* scratch) {
    Query* packed = layout(static_cast<char*>(scratch), tile.dk, tile.dv).q;
    for (int32_t i = 0; i < tile.queries; ++i) {
      for (int32_t h = 0; h < tile.heads; ++h) {
        const float* q = tile.q + i * tile.q_stride + static_cast<int64_t>(h) * tile.dk;
        Arch::pack_row(q, tile.dk, tile.scale_log2, packed);
        packed += Arch::query_columns(tile.dk);
      }
    }
  }

  static void reduce_chunk(const AttentionTile& tile, int32_t chunk, void* scratch, PartialRows part) {
    const Scratch s = layout(static_cast<char*>(scratch), tile.dk, tile.dv);
    const int32_t rows = tile.queries * tile.heads;
    const int32_t columns = round_up(tile.dv, kPanelKeys);
    PartialOps<V>::clear(part, rows, columns);
    for (int32_t i = 0; i < rows * kPanelKeys; ++i) s.sums[i] = 0.0f;

    const int32_t reached = panels_up_to(tile, limit_of(tile, tile.queries - 1));
    const int32_t last = at_most((chunk + 1) * kChunkPanels, reached);
    KeyBlock block;
    find_panels(tile, chunk * kChunkPanels, at_most(chunk * kChunkPanels + KeyBlock::kPanels, last), block);
    for (int32_t begin = chunk * kChunkPanels; begin < last; begin += KeyBlock::kPanels) {
      const int32_t next = at_most(begin + KeyBlock::kPanels, reached);
      ComingBlock coming(tile, next, at_most(next + KeyBlock::kPanels, reached),
                         Arch::kFetchesAhead ? at_least(rows, kLeastShares) : 0);
      Arch::prepare(tile, block, s.block);
      Arch::scores(s.q, rows, tile.dk, block, s.s);
      for (int32_t i = 0, r = 0; i < tile.queries; ++i) {
        for (int32_t h = 0; h < tile.heads; ++h, ++r) {
          const int64_t at = static_cast<int64_t>(r) * KeyBlock::kKeys;
          coming.fetch_share();
          Softmax::run(block, limit_of(tile, i), s.s + at, s.p + at,
                       {part.max_log2 + r, s.decay + r, s.sums + r * kPanelKeys}, [] {});
        }
      }
      Arch::weighted_sum(s.p, rows, columns, block, s.decay, part.out);
      block = coming.block();
    }
    for (int32_t r = 0; r < rows; ++r) part.sum[r] = sum_lanes(s.sums + r * kPanelKeys);
  }

  static constexpr int32_t kLeastShares = 32;  // fewer rows wait for memory anyway

  static constexpr TileKernel kernel() {
    return {Arch::kMaxRows, scratch_bytes,        pack_queries,
            reduce_chunk,   PartialOps<V>::merge, PartialOps<V>::finish};
  }
};

}  // namespace
}  // namespace longspan
