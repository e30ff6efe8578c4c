#include "device/cpu/linear.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "device/cpu/parallel.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;

/// How an op's [T, out] is cut: tiles of rows by groups of panels. The cut changes no result.
struct Cut {
  int64_t tile_rows = TileGemm::kMaxRows;
  int64_t group = TileGemm::kMaxPanels;  // panels
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

}  // namespace

std::unique_ptr<LinearWeight> cpu_pack_linear(std::span<const WeightView> stacked,
                                              std::span<const WeightView> biases, Arithmetic arithmetic) {
  auto result = std::make_unique<CpuLinearWeight>();
  result->out_features = check_stacked(stacked, biases);
  result->in_features = stacked[0].cols;
  std::vector<PackedMatrix::Column> columns;
  for (const WeightView& w : stacked)
    for (int64_t r = 0; r < w.rows; ++r) columns.push_back({w.slice_rows(r, 1).data, w.dtype});
  const int64_t panels = PackedMatrix::panels_for(result->out_features);
  columns.resize(static_cast<size_t>(panels * kPanel));
  result->matrix = PackedMatrix(panels, result->in_features, arithmetic,
                                [&](int64_t i) { return columns[static_cast<size_t>(i)]; });
  const auto present = [](const WeightView& b) { return b.data != nullptr; };
  if (std::any_of(biases.begin(), biases.end(), present)) {
    for (size_t i = 0; i < stacked.size(); ++i)
      for (int64_t r = 0; r < stacked[i].rows; ++r)
        result->bias.push_back(present(biases[i]) ? load_f32(biases[i].data, biases[i].dtype, r) : 0.0f);
  }
  result->bytes = result->matrix.bytes() + static_cast<int64_t>(result->bias.size() * sizeof(float));
  return result;
}

int64_t cpu_packed_linear_bytes(int64_t out_features, int64_t in_features, Arithmetic arithmetic) {
  return PackedMatrix::bytes_for(PackedMatrix::panels_for(out_features), in_features, arithmetic);
}

void cpu_linear(OpContext& ctx, TileGemm& gemm, const RowKernels& kernels, Matrix x, const LinearWeight& w,
                Matrix out, bool accumulate) {
  check_linear(x, w, out);
  const auto* weight = dynamic_cast<const CpuLinearWeight*>(&w);
  check(weight != nullptr, "linear: the weight belongs to another backend");
  if (x.rows == 0) return;
  const OneThreadScope one_thread;
  const Arena::Scope scope(ctx.arena);

  const int64_t k = weight->matrix.k_padded();
  const bool bf16 = weight->matrix.arithmetic() == Arithmetic::kBf16;
  const int64_t panels = PackedMatrix::panels_for(out.cols);
  const Cut cut = cut_work(x.rows, panels, ctx.threads);
  const int64_t tail_begin = (x.rows - 1) / cut.tile_rows * cut.tile_rows;
  const int64_t tail_rows = gemm.bucket_rows(x.rows - tail_begin);

  // Rows are copied where they must be rounded or padded with zeros; else tiles read x itself.
  const bool copy_all = bf16 || x.cols != k;
  const int64_t copy_begin = copy_all ? 0 : tail_begin + tail_rows == x.rows ? x.rows : tail_begin;
  const int64_t copied = tail_begin + tail_rows - copy_begin;
  const int64_t element = bf16 ? 2 : 4;
  char* copy = copy_begin < x.rows ? static_cast<char*>(ctx.arena.allocate(copied * k * element)) : nullptr;
  const bool biased = !weight->bias.empty();

  const int64_t prepare_rows = std::max(tail_begin + tail_rows, x.rows);
  const auto prepare = [&](int, int64_t t) {
    if (t >= copy_begin && copy != nullptr) {
      char* row = copy + (t - copy_begin) * k * element;
      const int64_t present = t < x.rows ? x.cols : 0;
      if (bf16)
        kernels.to_bf16(t < x.rows ? x.f32(t) : nullptr, present, reinterpret_cast<uint16_t*>(row));
      else if (present > 0)
        std::memcpy(row, x.f32(t), static_cast<size_t>(present) * sizeof(float));
      std::memset(row + present * element, 0, static_cast<size_t>((k - present) * element));
    }
    if (biased && t < x.rows) {
      if (accumulate)
        kernels.add(weight->bias.data(), out.cols, out.f32(t));
      else
        std::memcpy(out.f32(t), weight->bias.data(), weight->bias.size() * sizeof(float));
    }
  };
  if (copy != nullptr || biased)
    parallel_for(ctx.threads, prepare_rows, rows_per_turn(x.cols + (biased ? out.cols : 0)), prepare);

  char* scratch = static_cast<char*>(ctx.arena.allocate(TileGemm::kScratchBytes * ctx.threads));
  const int64_t items = cut.tiles * cut.groups;
  const int64_t chunk = std::clamp<int64_t>(items / (4 * ctx.threads), 1, cut.tiles);
  parallel_for(ctx.threads, items, chunk, [&](int thread, int64_t item) {  // tiles of one group together
    const int64_t row = item % cut.tiles * cut.tile_rows;
    const int64_t column = item / cut.tiles * cut.group * kPanel;
    const bool from_copy = row >= copy_begin && copy != nullptr;
    gemm.multiply(
        weight->matrix,
        {.a = from_copy ? static_cast<const void*>(copy + (row - copy_begin) * k * element) : x.f32(row),
         .a_stride = from_copy ? k : x.row_stride,
         .rows = std::min(cut.tile_rows, x.rows - row),
         .panel = column / kPanel,
         .columns = std::min(cut.group * kPanel, out.cols - column),
         .c = out.f32(row) + column,
         .c_stride = out.row_stride,
         .accumulate = accumulate || biased},
        scratch + thread * TileGemm::kScratchBytes);
  });
}

}  // namespace longspan
