#include <cmath>
#include <cstring>

#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

// Elements `index` of a matrix without gaps, on the host. Waits.
std::vector<float> pick(const Launcher& on, Matrix m, std::span<const int32_t> index) {
  const auto count = std::ssize(index);
  const auto bytes = static_cast<int64_t>(index.size_bytes());
  const std::shared_ptr<char> staged = on.card.pinned(bytes);
  std::memcpy(staged.get(), index.data(), index.size_bytes());
  auto* where = static_cast<int32_t*>(on.arena.allocate(bytes));
  on.stream.copy_in(where, staged, bytes);
  const Matrix column{m.data, m.dtype, m.rows * m.cols, 1, 1};
  const Matrix picked = on.scratch(count, 1, DType::kF32);
  select_rows(on, column, where, picked);
  std::vector<float> values(index.size());
  download(on, picked, values.data());
  return values;
}

}  // namespace

// Of the softmax only the largest element is used: it is at least 1 / V, so its logarithm is exact enough,
// and ln(sum) = largest logit - ln(largest probability).
RowScores score_rows(const Launcher& on, Matrix logits, std::span<const int32_t> targets) {
  const AclnnApi& ops = on.card.cann().ops;
  const Matrix x = dense(on, logits, DType::kF32);
  const Matrix p = on.scratch(x.rows, x.cols, DType::kF32), best = on.scratch(x.rows, 1, DType::kI32);
  call(on, ops.softmax, on.tensor(x).get(), int64_t{1}, on.tensor(p).get());
  call(on, ops.arg_max, on.tensor(x).get(), int64_t{1}, true, on.tensor(best).get());
  std::vector<int32_t> largest(static_cast<size_t>(x.rows)), wanted;
  download(on, best, largest.data());
  for (int64_t row = 0; row < x.rows; ++row) {
    const auto start = static_cast<int32_t>(row * x.cols);
    largest[row] += start;
    wanted.push_back(start + (targets.empty() ? 0 : targets[row]));
  }
  const std::vector<float> probabilities = pick(on, p, largest), maxima = pick(on, x, largest);
  RowScores result{pick(on, x, wanted), {}};
  for (size_t row = 0; row < maxima.size(); ++row)
    result.log_sums.push_back(maxima[row] - std::log(probabilities[row]));
  return result;
}

}  // namespace longspan::ascend
