#include "device/cpu/moe.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "device/cpu/parallel.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kOutputBytes = int64_t{16} << 20;     // of all experts' outputs held at a time
constexpr int64_t kActivatedBytes = int64_t{24} << 20;  // of all experts' silu(gate) * up held at a time

/// The rows of one expert that one multiply takes.
struct Tile {
  int32_t expert;  // local
  int32_t begin;   // of the grouped rows
  int32_t rows;
};

/// Rows of the step in the order of their experts. R pairs (row t, choice j) have a local expert.
struct Grouping {
  int32_t* token;     // [R] row t of each grouped row
  int32_t* position;  // [T, k] grouped row of each choice, or -1
  int32_t rows = 0;   // R
  Tile* tiles;
  int64_t tile_count = 0;
};

Grouping group_rows(OpContext& ctx, Matrix ids, const ExpertWeights& experts) {
  const auto ints = [&](int64_t n) {
    return static_cast<int32_t*>(ctx.arena.allocate(n * static_cast<int64_t>(sizeof(int32_t))));
  };
  const int64_t pairs = ids.rows * ids.cols;
  Grouping g{.token = ints(pairs), .position = ints(pairs), .tiles = nullptr};
  int32_t* begin = ints(experts.count + 1);
  std::fill(begin, begin + experts.count + 1, 0);
  const auto local = [&](int64_t t, int64_t j) {
    const int32_t e = ids.row<int32_t>(t)[j] - experts.first_expert;
    return e >= 0 && e < experts.count ? e : -1;
  };
  for (int64_t t = 0; t < ids.rows; ++t)
    for (int64_t j = 0; j < ids.cols; ++j)
      if (const int32_t e = local(t, j); e >= 0) ++begin[e + 1];
  for (int32_t e = 0; e < experts.count; ++e) begin[e + 1] += begin[e];
  g.rows = begin[experts.count];

  // Each expert's rows in tiles of nearly equal height, multiples of 16.
  g.tiles = static_cast<Tile*>(
      ctx.arena.allocate((experts.count + g.rows / 16 + 1) * static_cast<int64_t>(sizeof(Tile))));
  for (int32_t e = 0; e < experts.count; ++e) {
    const int32_t rows = begin[e + 1] - begin[e];
    const auto parts = static_cast<int32_t>((rows + kTileRows - 1) / kTileRows);
    const int32_t height = parts == 0 ? 0 : ((rows + parts - 1) / parts + 15) / 16 * 16;
    for (int32_t done = 0; done < rows; done += height)
      g.tiles[g.tile_count++] = {e, begin[e] + done, std::min(height, rows - done)};
  }

  for (int64_t t = 0; t < ids.rows; ++t) {
    for (int64_t j = 0; j < ids.cols; ++j) {
      const int32_t e = local(t, j);
      g.position[t * ids.cols + j] = e < 0 ? -1 : begin[e];
      if (e >= 0) g.token[begin[e]++] = static_cast<int32_t>(t);
    }
  }
  return g;
}

/// Parts to cut each tile's `units` into, so that every thread gets a few.
int64_t parts_per_tile(int64_t tiles, int64_t units, int threads) {
  if (threads == 1 || tiles == 0) return 1;
  return std::clamp<int64_t>((4 * threads + tiles - 1) / tiles, 1, units);
}

/// Part `part` of `parts` of [0, units).
struct Range {
  int64_t begin, end;
  Range(int64_t units, int64_t parts, int64_t part)
      : begin(units * part / parts), end(units * (part + 1) / parts) {}
};

/// Bytes of an element of silu(gate) * up: f32 where the row is quantised once it is whole.
int64_t activated_bytes_each(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kBf16 ? 2 : 4;
}

/// Rows of the step that go through all experts at a time: more in flight cost memory and give nothing once
/// each expert has some hundred rows.
int64_t rows_at_a_time(const CpuExpertWeights& experts, int64_t rows, int64_t choices) {
  const int64_t row_bytes =
      choices * experts.down.k_padded() * activated_bytes_each(experts.down.arithmetic());
  const int64_t blocks = (rows * row_bytes + kActivatedBytes - 1) / kActivatedBytes;
  return (rows + blocks - 1) / std::max<int64_t>(1, blocks);
}

}  // namespace

std::unique_ptr<ExpertWeights> cpu_pack_experts(std::span<const ExpertSource> experts, int32_t first_expert,
                                                Arithmetic arithmetic, const ExpertPacked& packed) {
  auto result = std::make_unique<CpuExpertWeights>();
  describe_experts(experts, first_expert, *result);
  const auto row_of = [](const WeightView& w, int64_t row) {
    return row < w.rows ? PackedMatrix::Column{w.slice_rows(row, 1).data, w.dtype} : PackedMatrix::Column{};
  };
  const int64_t gate_up_panels = 2 * result->pairs(), down_panels = result->down_panels();
  result->gate_up = PackedMatrix(result->count * gate_up_panels, result->hidden, arithmetic);
  result->down = PackedMatrix(result->count * down_panels, result->width, arithmetic);
  for (size_t i = 0; i < experts.size(); ++i) {
    const ExpertSource& e = experts[i];
    const auto expert = static_cast<int64_t>(i);
    result->gate_up.pack(expert * gate_up_panels, gate_up_panels, [&](int64_t column) {
      const int64_t row = column / (2 * kPanel) * kPanel + column % kPanel;
      return row_of(column / kPanel % 2 == 0 ? e.gate : e.up, row);
    });
    result->down.pack(expert * down_panels, down_panels,
                      [&](int64_t column) { return row_of(e.down, column); });
    if (packed) packed(i);
  }
  result->bytes = result->gate_up.bytes() + result->down.bytes();
  return result;
}

int64_t cpu_packed_expert_bytes(int64_t hidden, int64_t width, Arithmetic arithmetic) {
  return PackedMatrix::bytes_for(2 * PackedMatrix::panels_for(width), hidden, arithmetic) +
         PackedMatrix::bytes_for(PackedMatrix::panels_for(hidden), width, arithmetic);
}

namespace {

void multiply_experts(OpContext& ctx, const CpuKernels& kernels, Matrix x, Matrix ids, Matrix weights,
                      const CpuExpertWeights& experts, Matrix out) {
  const Arena::Scope scope(ctx.arena);
  const Grouping g = group_rows(ctx, ids, experts);
  if (g.rows == 0) return;

  const Arithmetic arithmetic = experts.gate_up.arithmetic();
  const bool bf16 = arithmetic == Arithmetic::kBf16;
  const int64_t element = activation_bytes(arithmetic);
  const int64_t hidden = experts.hidden;
  const int64_t k_up = experts.gate_up.k_padded(), k_down = experts.down.k_padded();
  const int64_t pairs = experts.pairs(), down_panels = experts.down_panels();

  // Per thread: the gathered rows of a tile, gate and up of one panel pair, and the multiply's own scratch.
  const int64_t gathered_stride = prepared_row_stride(arithmetic, k_up);
  const int64_t row_bytes = gathered_stride * element;
  const int64_t gathered_bytes = kTileRows * row_bytes;
  constexpr int64_t kPairBytes = kTileRows * 2 * kPanel * 4;
  const int64_t thread_bytes =
      gathered_bytes + kPairBytes +
      std::max(tile_scratch_bytes(experts.gate_up), tile_scratch_bytes(experts.down));
  char* scratch = static_cast<char*>(ctx.arena.allocate(thread_bytes * ctx.threads));
  // silu(gate) * up of every grouped row.
  const bool int8 = arithmetic == Arithmetic::kInt8;
  const int64_t activated_stride = bf16 ? bf16_row_stride(k_down) : k_down;
  const int64_t activated_element = activated_bytes_each(arithmetic);
  int64_t activated_bytes = activated_stride * activated_element;
  char* activated = static_cast<char*>(ctx.arena.allocate((g.rows + kRowMultiple) * activated_bytes));

  // A row that must be rounded is, once, before its experts copy it.
  const bool rounded = element < 4;
  char* prepared = rounded ? static_cast<char*>(ctx.arena.allocate(x.rows * row_bytes)) : nullptr;
  if (rounded)
    parallel_for(ctx.threads, x.rows, rows_per_turn(hidden), [&](int, int64_t t) {
      prepare_row(kernels.rows, arithmetic, x.f32(t), hidden, k_up, prepared + t * row_bytes);
    });

  const int64_t up_parts = parts_per_tile(g.tile_count, pairs, ctx.threads);
  parallel_for(ctx.threads, g.tile_count * up_parts, 1, [&](int thread, int64_t item) {
    const Tile& tile = g.tiles[item / up_parts];
    char* gathered = scratch + thread * thread_bytes;
    auto* gate_up = reinterpret_cast<float*>(gathered + gathered_bytes);
    char* tile_scratch = gathered + gathered_bytes + kPairBytes;
    for (int64_t r = 0; r < tile.rows; ++r) {
      const int32_t t = g.token[tile.begin + r];
      char* row = gathered + r * row_bytes;
      if (rounded)
        std::memcpy(row, prepared + t * row_bytes, static_cast<size_t>(row_bytes));
      else
        prepare_row(kernels.rows, arithmetic, x.f32(t), hidden, k_up, row);
    }
    const Range range(pairs, up_parts, item % up_parts);
    for (int64_t pair = range.begin; pair < range.end; ++pair) {
      multiply_tile(kernels, experts.gate_up,
                    {.a = gathered,
                     .a_stride = gathered_stride,
                     .rows = tile.rows,
                     .panel = (tile.expert * pairs + pair) * 2,
                     .columns = 2 * kPanel,
                     .c = gate_up,
                     .c_stride = 2 * kPanel},
                    tile_scratch);
      // The last pair's padded columns give silu(0) * 0 = 0, which is the padding that `down` wants.
      const int64_t columns = std::min(kPanel, k_down - pair * kPanel);
      for (int64_t r = 0; r < tile.rows; ++r) {
        const float* gate = gate_up + r * 2 * kPanel;
        char* row = activated + (tile.begin + r) * activated_bytes + pair * kPanel * activated_element;
        if (bf16)
          kernels.rows.swiglu_bf16(gate, gate + kPanel, columns, reinterpret_cast<uint16_t*>(row));
        else
          kernels.rows.swiglu(gate, gate + kPanel, columns, reinterpret_cast<float*>(row));
      }
    }
  });

  int64_t down_stride = activated_stride;
  if (int8) {
    const int64_t quantized_bytes = int8_row_stride(k_down);
    char* quantized = static_cast<char*>(ctx.arena.allocate((g.rows + kRowMultiple) * quantized_bytes));
    parallel_for(ctx.threads, g.rows, rows_per_turn(k_down), [&](int, int64_t r) {
      prepare_row(kernels.rows, arithmetic, reinterpret_cast<const float*>(activated + r * activated_bytes),
                  experts.width, k_down, quantized + r * quantized_bytes);
    });
    activated = quantized;
    activated_bytes = down_stride = quantized_bytes;
  }

  // Columns of the outputs in blocks, so that what waits to be summed stays small.
  const int64_t block_panels =
      std::clamp<int64_t>(kOutputBytes / (g.rows * kPanel * 4) / 2 * 2, 2, down_panels);
  const int64_t block_columns = block_panels * kPanel;
  auto* expert_out = static_cast<float*>(ctx.arena.allocate(g.rows * block_columns * 4));
  for (int64_t first = 0; first < down_panels; first += block_panels) {
    const int64_t panels = std::min(block_panels, down_panels - first);
    const int64_t units = (panels + 1) / 2;
    const int64_t parts = parts_per_tile(g.tile_count, units, ctx.threads);
    parallel_for(ctx.threads, g.tile_count * parts, 1, [&](int thread, int64_t item) {
      const Tile& tile = g.tiles[item / parts];
      char* tile_scratch = scratch + thread * thread_bytes + gathered_bytes + kPairBytes;
      const Range range(units, parts, item % parts);
      for (int64_t unit = range.begin; unit < range.end; ++unit)
        multiply_tile(kernels, experts.down,
                      {.a = activated + tile.begin * activated_bytes,
                       .a_stride = down_stride,
                       .rows = tile.rows,
                       .panel = tile.expert * down_panels + first + 2 * unit,
                       .columns = std::min<int64_t>(2, panels - 2 * unit) * kPanel,
                       .c = expert_out + tile.begin * block_columns + 2 * unit * kPanel,
                       .c_stride = block_columns},
                      tile_scratch);
    });
    const int64_t column = first * kPanel;
    const int64_t columns = std::min(panels * kPanel, hidden - column);
    parallel_for(ctx.threads, x.rows, rows_per_turn(columns * ids.cols), [&](int, int64_t t) {
      for (int64_t j = 0; j < ids.cols; ++j) {
        const int32_t position = g.position[t * ids.cols + j];
        if (position >= 0)
          kernels.rows.add_scaled(expert_out + position * block_columns, weights.f32(t)[j], columns,
                                  out.f32(t) + column);
      }
    });
  }
}

}  // namespace

void cpu_moe_experts(OpContext& ctx, const CpuKernels& kernels, Matrix x, Matrix ids, Matrix weights,
                     const ExpertWeights& experts, Matrix out) {
  check_moe_experts(x, ids, weights, experts, out);
  const auto* packed = dynamic_cast<const CpuExpertWeights*>(&experts);
  check(packed != nullptr, "moe_experts: the experts belong to another backend");
  const int64_t block = rows_at_a_time(*packed, x.rows, ids.cols);
  for (int64_t row = 0; row < x.rows; row += block) {
    const int64_t rows = std::min(block, x.rows - row);
    multiply_experts(ctx, kernels, x.slice_rows(row, rows), ids.slice_rows(row, rows),
                     weights.slice_rows(row, rows), *packed, out.slice_rows(row, rows));
  }
}

}  // namespace longspan
