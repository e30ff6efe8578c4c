#include <longspan/error.h>

#include <algorithm>

#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

constexpr int64_t kMaskSide = 2048, kNoLimit = 2147483647;
constexpr size_t kMostEntries = 4096;  // of the length arrays in TND

/// The arguments of one launch that vary.
struct Launch {
  T query = nullptr, mask = nullptr, block_table = nullptr, out = nullptr, lse = nullptr;
  L key = nullptr, value = nullptr;
  A query_ends = nullptr, kv_lengths = nullptr;
  int64_t heads = 0, kv_heads = 0, page_size = 0;
  double scale = 1;
};

// Calls f with the operator's arguments.
template <class F>
void with_arguments(const Launch& a, F f) {
  char layout[] = "TND";
  const int64_t sparse_mode = a.mask ? 3 : 0;  // bottom-right causal, or every key
  f(a.query, a.key, a.value, nullptr, a.mask, a.query_ends, a.kv_lengths, nullptr, nullptr, nullptr, nullptr,
    nullptr, nullptr, nullptr, a.block_table, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
    nullptr, nullptr, nullptr, nullptr, nullptr, a.heads, a.scale, kNoLimit, kNoLimit, layout, a.kv_heads,
    sparse_mode, int64_t{0}, a.page_size, int64_t{0}, a.lse != nullptr, int64_t{0}, int64_t{0}, a.out, a.lse);
}

TensorList pages(const Card& card, const AscendKvPool& pool, Matrix rows) {
  return make_list(
      card, make_tensor(card, rows.data, kAclBf16, {pool.shape.pages, pool.shape.page_size, rows.cols}));
}

Tensor causal_mask(const Card& card, const void* mask) {
  return make_tensor(card, mask, kAclInt8, {kMaskSide, kMaskSide});
}

// What the operator would refuse, told with our own words; it does not check page numbers.
void check_segments(const AttentionArgs& args, std::span<const Segment> segments) {
  const AscendKvPool& pool = static_cast<const AscendKvPool&>(*args.pool);
  int32_t row = segments[0].q_begin;
  for (const Segment& s : segments) {
    check(s.q_len > 0 && s.q_begin == row,
          "fused attention takes segments without gaps and without empty ones");
    row += s.q_len;
    check(!s.causal || s.q_len <= s.kv_len, "a causal segment has at least as many keys as queries");
    check(s.causal == segments[0].causal, "one launch takes causal segments, or others, not both");
    check(s.kv_len <= int64_t{args.block_table.max_pages} * pool.shape.page_size,
          "kv_len fits the block table");
  }
  check(row <= args.q.rows, "segments lie within q");
}

// Each segment's row of the block table.
std::vector<int32_t> repeated_rows(const BlockTable& table, std::span<const Segment> segments,
                                   int32_t pages) {
  std::vector<int32_t> result;
  result.reserve(segments.size() * static_cast<size_t>(table.max_pages));
  for (const Segment& s : segments) {
    const int32_t* row = table.entries.host + int64_t{s.block_table_row} * table.max_pages;
    result.insert(result.end(), row, row + table.max_pages);
  }
  for (const int32_t page : result)
    check(page >= 0 && page < pages, "the block table names pages of the pool");
  return result;
}

void launch(const Launcher& on, const AttentionArgs& args, std::span<const Segment> segments,
            const void* mask) {
  check_segments(args, segments);
  const auto& pool = static_cast<const AscendKvPool&>(*args.pool);
  const int64_t begin = segments.front().q_begin;
  const int64_t rows = segments.back().q_begin + segments.back().q_len - begin;
  const int64_t heads = args.heads_q, key_dim = pool.shape.dim_k, value_dim = pool.shape.dim_v;
  std::vector<int64_t> query_ends, kv_lengths;
  for (const Segment& s : segments) {
    query_ends.push_back(s.q_begin + s.q_len - begin);
    kv_lengths.push_back(s.kv_len);
  }
  const int32_t* table = on.stream.table(repeated_rows(args.block_table, segments, pool.shape.pages));

  const Matrix q = dense(on, args.q.slice_rows(begin, rows), DType::kBF16);
  const Matrix out = on.scratch(rows, heads * value_dim, DType::kBF16);
  const Matrix lse = args.lse_ln.data ? on.scratch(rows, heads, DType::kF32) : Matrix{};
  const Tensor query = make_tensor(on.card, q.data, kAclBf16, {rows, heads, key_dim});
  const Tensor result = make_tensor(on.card, out.data, kAclBf16, {rows, heads, value_dim});
  const Tensor sums = lse.data ? make_tensor(on.card, lse.data, kAclFloat, {rows, heads, 1}) : Tensor{};
  const TensorList key = pages(on.card, pool, pool.k_rows(args.layer));
  const TensorList value = pages(on.card, pool, pool.v_rows(args.layer));
  const Tensor masked = segments[0].causal ? causal_mask(on.card, mask) : Tensor{};
  const Tensor rows_of_table =
      make_tensor(on.card, table, kAclInt32, {std::ssize(segments), args.block_table.max_pages});
  const IntArray ends = make_integers(on.card, query_ends), lengths = make_integers(on.card, kv_lengths);
  with_arguments({.query = query.get(),
                  .mask = masked.get(),
                  .block_table = rows_of_table.get(),
                  .out = result.get(),
                  .lse = sums.get(),
                  .key = key.get(),
                  .value = value.get(),
                  .query_ends = ends.get(),
                  .kv_lengths = lengths.get(),
                  .heads = heads,
                  .kv_heads = pool.shape.heads_k,
                  .page_size = pool.shape.page_size,
                  .scale = args.scale},
                 [&](auto... a) { call(on, on.card.cann().ops.fused_attention, a...); });
  copy(on, out, args.out.slice_rows(begin, rows));
  if (lse.data) copy(on, lse, args.lse_ln.slice_rows(begin, rows));
}

}  // namespace

void attention(const Launcher& on, const AttentionArgs& args, const void* mask) {
  for (size_t begin = 0; begin < args.segments.size(); begin += kMostEntries)
    launch(on, args, args.segments.subspan(begin, std::min(kMostEntries, args.segments.size() - begin)),
           mask);
}

void check_attention(Card& card, const AscendKvPool& pool, const void* mask) {
  card.enter();
  const auto& op = card.cann().ops.fused_attention;
  require_op(card, op);
  const int64_t heads = pool.shape.heads_k;
  const DeviceBuffer q(card, heads * pool.shape.dim_k * 2), o(card, heads * pool.shape.dim_v * 2), t(card, 4);
  const Tensor query = make_tensor(card, q.data(), kAclBf16, {1, heads, pool.shape.dim_k});
  const Tensor out = make_tensor(card, o.data(), kAclBf16, {1, heads, pool.shape.dim_v});
  const Tensor table = make_tensor(card, t.data(), kAclInt32, {1, 1});
  const Tensor masked = causal_mask(card, mask);
  const TensorList key = pages(card, pool, pool.k_rows(0)), value = pages(card, pool, pool.v_rows(0));
  const IntArray one = make_integers(card, std::vector<int64_t>{1});
  AclStatus status = 0;
  uint64_t bytes = 0;
  AclExecutor* executor = nullptr;
  with_arguments({.query = query.get(),
                  .mask = masked.get(),
                  .block_table = table.get(),
                  .out = out.get(),
                  .key = key.get(),
                  .value = value.get(),
                  .query_ends = one.get(),
                  .kv_lengths = one.get(),
                  .heads = heads,
                  .kv_heads = heads,
                  .page_size = pool.shape.page_size},
                 [&](auto... a) { status = op.describe(a..., &bytes, &executor); });
  if (status == kAclTilingError)
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("backend ascend: the fused attention of CANN {} refuses head dim {} (values {}) in "
                    "its layout TND: {}; use a newer CANN",
                    card.cann().version(), pool.shape.dim_k, pool.shape.dim_v, card.recent_error()));
  card.check(status, op.name);
  if (executor) card.base().aclDestroyAclOpExecutor(executor);
}

}  // namespace longspan::ascend
