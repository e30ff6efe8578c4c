#pragma once

#include <benchmark/benchmark.h>

#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "device/cpu/attention.h"
#include "device/cpu/kv_pages.h"
#include "device/host_memory.h"
#include "op_bench.h"

namespace longspan {

/// Attention at the geometry of Qwen3-30B-A3B (32 query heads, 4 kv heads, 128) over pages of 128 tokens,
/// with `q_len` query rows of each sequence of `kv_len` tokens.
class AttentionCase {
 public:
  static constexpr int32_t kHeadsQ = 32, kHeadsKv = 4, kDim = 128, kPage = 128;

  AttentionCase(Isa isa, DType dtype, int32_t q_len, int32_t kv_len, int32_t sequences)
      : isa_(isa), pages_((kv_len + kPage - 1) / kPage), sequences_(sequences) {
    pool_ = make_cpu_kv_pool({1, pages_ * sequences + 1, kPage, kHeadsKv, kDim, kHeadsKv, kDim}, dtype);
    table_.resize(static_cast<size_t>(pages_ * sequences));
    std::iota(table_.begin(), table_.end(), 1);
    std::vector<float> rows(static_cast<size_t>(kPage * kHeadsKv * kDim));
    std::vector<int32_t> slots(kPage);
    for (int32_t page : table_) {
      for (size_t i = 0; i < rows.size(); ++i)
        rows[i] = std::sin(static_cast<float>(i) * 0.37f + static_cast<float>(page));
      std::iota(slots.begin(), slots.end(), page * kPage);
      const Matrix kv{rows.data(), DType::kF32, kPage, kHeadsKv * kDim, kHeadsKv * kDim};
      cpu_kv_write(ctx_, *pool_, 0, kv, kv, {slots.data(), slots.data(), kPage});
    }
    q_.resize(static_cast<size_t>(q_len) * sequences * kHeadsQ * kDim);
    out_.resize(q_.size());
    for (size_t i = 0; i < q_.size(); ++i) q_[i] = std::cos(static_cast<float>(i) * 0.11f);
  }

  /// The segments' query rows are the first of q.
  void run(std::span<const Segment> segments) {
    constexpr int64_t kCols = kHeadsQ * kDim;
    const int64_t rows = segments.back().q_begin + segments.back().q_len;
    AttentionArgs args;
    args.q = {q_.data(), DType::kF32, rows, kCols, kCols};
    args.pool = pool_.get();
    args.segments = segments;
    args.block_table = {
        {table_.data(), table_.data(), static_cast<int64_t>(table_.size())}, sequences_, pages_};
    args.heads_q = kHeadsQ;
    args.scale = 1.0f / std::sqrt(static_cast<float>(kDim));
    args.out = {out_.data(), DType::kF32, rows, kCols, kCols};
    cpu_attention(ctx_, args, isa_);
  }

 private:
  Isa isa_;
  int32_t pages_, sequences_;
  HostMemory memory_;
  Arena arena_{memory_};
  OpContext ctx_{arena_, 1};
  std::unique_ptr<KvPool> pool_;
  std::vector<int32_t> table_;
  std::vector<float> q_, out_;
};

}  // namespace longspan
