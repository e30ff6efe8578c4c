#include "device/cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "device/cpu/parallel.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kRowsAtATime = 2048;

/// How an op's [T, out] is cut: tiles of rows by groups of panels. The cut changes no result.
struct Cut {
  int64_t tile_rows = kTileRows;
  int64_t group = kTilePanels;  // panels
  int64_t tiles = 0, groups = 0;
};

Cut cut_work(int64_t rows, int64_t panels, int threads) {
  Cut cut;
  const auto count = [&] {
    cut.tiles = (rows + cut.tile_rows - 1) / cut.tile_rows;
    cut.groups = (panels + cut.group - 1) / cut.group;
    return cut.tiles * cut.groups;
  };
  const int64_t wanted = threads == 1 ? 1 : int64_t{4} * threads;
  if (count() < wanted) cut.group = 1;
  while (count() < wanted && cut.tile_rows > 16) cut.tile_rows /= 2;
  return cut;
}

/// Blocks of rows that oneDNN multiplies: as many for each thread, so that none waits for another.
int64_t library_blocks(const CpuLinearWeight& weight, Matrix x, Matrix out, int threads) {
  const int64_t k = weight.matrix.k_padded();
  const bool in_place = activation_bytes(weight.matrix.arithmetic()) == 4 && x.cols == k;
  if (weight.product == nullptr || out.row_stride != out.cols || (in_place && x.row_stride != k)) return 0;
  return x.rows / (OneDnnProduct::kRows * threads) * threads;
}

}  // namespace

std::unique_ptr<LinearWeight> cpu_pack_linear(std::span<const WeightView> stacked,
                                              std::span<const WeightView> biases, const CpuKernels& kernels,
                                              Arithmetic arithmetic) {
  auto result = std::make_unique<CpuLinearWeight>();
  result->out_features = check_stacked(stacked, biases);
  result->in_features = stacked[0].cols;
  std::vector<PackedMatrix::Column> columns;
  for (const WeightView& w : stacked)
    for (int64_t r = 0; r < w.rows; ++r) columns.push_back({w.slice_rows(r, 1).data, w.dtype});
  const int64_t panels = PackedMatrix::panels_for(result->out_features);
  columns.resize(static_cast<size_t>(panels * kPanel));
  result->matrix = PackedMatrix(panels, result->in_features, arithmetic);
  result->matrix.pack(0, panels, [&](int64_t i) { return columns[static_cast<size_t>(i)]; });
  result->bias = stacked_bias(stacked, biases);
  const bool bf16 = arithmetic == Arithmetic::kBf16;
  if (kernels.library != nullptr && (bf16 || arithmetic == Arithmetic::kF32))
    result->product = kernels.library->get(bf16 ? DType::kBF16 : DType::kF32, result->matrix.k_padded(),
                                           result->out_features, bf16 ? kernels.gemm.bf16 : kernels.gemm.f32);
  result->bytes = result->matrix.bytes() + static_cast<int64_t>(result->bias.size() * sizeof(float));
  return result;
}

int64_t cpu_packed_linear_bytes(int64_t out_features, int64_t in_features, Arithmetic arithmetic) {
  return PackedMatrix::bytes_for(PackedMatrix::panels_for(out_features), in_features, arithmetic);
}

namespace {

void multiply_rows(OpContext& ctx, const CpuKernels& kernels, Matrix x, const CpuLinearWeight& weight,
                   Matrix out, bool accumulate) {
  const Arena::Scope scope(ctx.arena);
  const PackedMatrix& matrix = weight.matrix;

  // Rows are copied where they must be rounded or padded with zeros; else tiles read x itself.
  const Arithmetic arithmetic = matrix.arithmetic();
  const int64_t element = activation_bytes(arithmetic);
  const bool copied = element < 4 || x.cols != matrix.k_padded();
  const int64_t blocks = library_blocks(weight, x, out, ctx.threads);
  const int64_t stride = blocks > 0 ? matrix.k_padded()
                         : copied   ? prepared_row_stride(arithmetic, matrix.k_padded())
                                    : x.row_stride;
  const int64_t row_bytes = stride * element;
  char* rows = copied ? static_cast<char*>(ctx.arena.allocate((x.rows + kRowMultiple) * row_bytes))
                      : static_cast<char*>(x.data);
  const bool biased = !weight.bias.empty();
  if (copied || biased) {
    parallel_for(ctx.threads, x.rows, rows_per_turn(x.cols), [&](int, int64_t t) {
      if (copied)
        prepare_row(kernels.rows, arithmetic, x.f32(t), x.cols, matrix.k_padded(), rows + t * row_bytes);
      if (biased && accumulate)
        kernels.rows.add(weight.bias.data(), out.cols, out.f32(t));
      else if (biased)
        std::memcpy(out.f32(t), weight.bias.data(), weight.bias.size() * sizeof(float));
    });
  }

  if (blocks > 0) {
    const OneDnnProduct& product = *weight.product;
    const int64_t pad_bytes = (product.scratch_bytes() + 63) / 64 * 64;
    char* pads = static_cast<char*>(ctx.arena.allocate(pad_bytes * ctx.threads));
    parallel_for(ctx.threads, blocks, 1, [&](int thread, int64_t block) {
      const int64_t row = block * OneDnnProduct::kRows;
      product.multiply(rows + row * row_bytes, matrix.panel(0), out.f32(row), accumulate || biased,
                       pads + thread * pad_bytes);
    });
  }

  // The rows that are left.
  const int64_t done = blocks * OneDnnProduct::kRows;
  const Cut cut = cut_work(x.rows - done, PackedMatrix::panels_for(out.cols), ctx.threads);
  const int64_t scratch_bytes = tile_scratch_bytes(matrix);
  char* scratch = static_cast<char*>(ctx.arena.allocate(scratch_bytes * ctx.threads));
  const int64_t items = cut.tiles * cut.groups;
  const int64_t chunk = std::clamp<int64_t>(items / (4 * ctx.threads), 1, cut.tiles);
  parallel_for(ctx.threads, items, chunk, [&](int thread, int64_t item) {  // tiles of one group together
    const int64_t row = done + item % cut.tiles * cut.tile_rows;
    const int64_t column = item / cut.tiles * cut.group * kPanel;
    multiply_tile(kernels, matrix,
                  {.a = rows + row * row_bytes,
                   .a_stride = stride,
                   .rows = std::min(cut.tile_rows, x.rows - row),
                   .panel = column / kPanel,
                   .columns = std::min(cut.group * kPanel, out.cols - column),
                   .c = out.f32(row) + column,
                   .c_stride = out.row_stride,
                   .accumulate = accumulate || biased},
                  scratch + thread * scratch_bytes);
  });
}

}  // namespace

void cpu_linear(OpContext& ctx, const CpuKernels& kernels, Matrix x, const LinearWeight& w, Matrix out,
                bool accumulate) {
  check_linear(x, w, out);
  const auto* weight = dynamic_cast<const CpuLinearWeight*>(&w);
  check(weight != nullptr, "linear: the weight belongs to another backend");
  // As many rows at a time as keep every thread busy: their copies cost memory.
  const int64_t each = OneDnnProduct::kRows * ctx.threads;
  const int64_t block = each * std::max<int64_t>(1, kRowsAtATime / each);
  for (int64_t row = 0; row < x.rows; row += block) {
    const int64_t rows = std::min(block, x.rows - row);
    multiply_rows(ctx, kernels, x.slice_rows(row, rows), *weight, out.slice_rows(row, rows), accumulate);
  }
}

}  // namespace longspan
