#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>

#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

constexpr int64_t kNoLimit = 2147483647;
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

// Codes of phase 1 that say that this release, or this card, has no kernel for the call.
bool refuses(AclStatus status) {
  return status == kAclTilingError || status == kAclParamInvalid || status == kAclKernelNotFound ||
         status == kAclKernelNotLoaded;
}

// Which other versions of the operator were looked for: a hint where V3 is not the one.
std::string other_versions(const Card& card) {
  std::string text;
  for (const char* name : {"aclnnFusedInferAttentionScoreV2", "aclnnFusedInferAttentionScoreV4"})
    text += fmt::format(
        "{}{} {}", text.empty() ? " (also looked for: " : ", ", name,
        card.cann().has_operator(name) ? "is there, but not called by this build" : "is not there");
  return text + ")";
}

constexpr int32_t kZeroPage = -1;  // block_table_row of entries that see one key of page 0, all zeros

// What fused attention refuses beyond the contract of the op, told with our own words. It wants rows without
// gaps, and keys for each: rows in gaps, and those that see no key, get one that is zero.
std::vector<Segment> entries_of(std::span<const Segment> segments) {
  std::vector<Segment> entries;
  entries.reserve(segments.size());
  int32_t row = segments[0].q_begin;
  for (const Segment& s : segments) {
    const bool gap = s.q_begin > row;
    check(s.q_len > 0 && s.q_begin >= row && !(gap && s.causal),
          "fused attention takes segments in order, none of them empty, causal ones without gaps");
    check(s.causal == segments[0].causal, "one launch takes causal segments, or others, not both");
    if (gap) entries.push_back({row, s.q_begin - row, kZeroPage, 1, /*causal=*/false});
    entries.push_back(s.kv_len > 0 ? s : Segment{s.q_begin, s.q_len, kZeroPage, 1, /*causal=*/false});
    row = s.q_begin + s.q_len;
  }
  return entries;
}

bool some_see_nothing(std::span<const Segment> segments) {
  return std::ranges::any_of(segments, [](const Segment& s) { return s.kv_len == 0; });
}

int32_t rows_of(std::span<const Segment> segments) {
  return segments.back().q_begin + segments.back().q_len - segments.front().q_begin;
}

// `table`: the entries' rows of the block table, on the card.
void launch(const Launcher& on, const AttentionArgs& args, std::span<const Segment> segments,
            const int32_t* table, const void* mask) {
  const auto& pool = static_cast<const AscendKvPool&>(*args.pool);
  const int64_t begin = segments.front().q_begin;
  const int64_t rows = rows_of(segments);
  const int64_t heads = args.heads_q, key_dim = pool.shape.dim_k, value_dim = pool.shape.dim_v;
  std::vector<int64_t> query_ends, kv_lengths;
  for (const Segment& s : segments) {
    query_ends.push_back(s.q_begin + s.q_len - begin);
    kv_lengths.push_back(s.kv_len);
  }
  const Matrix q = dense(on, args.q.slice_rows(begin, rows), DType::kBF16);
  const Matrix wanted = args.out.slice_rows(begin, rows);
  const bool direct = wanted.dtype == DType::kBF16 && is_dense(wanted) && wanted.data != q.data;
  const Matrix out = direct ? wanted : on.scratch(rows, heads * value_dim, DType::kBF16);
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
  if (!direct) copy(on, out, wanted);
  if (lse.data) copy(on, lse, args.lse_ln.slice_rows(begin, rows));
}

}  // namespace

bool takes_two_launches(int32_t wanted, std::string_view version) {
  return wanted ? wanted == 2 : !is_at_least(version, 8, 5);
}

StagedIndices stage_pages(Card& card, std::span<const Segment> segments, const BlockTable& table) {
  if (segments.empty()) return {};
  const std::vector<Segment> entries = entries_of(segments);
  std::vector<int32_t> pages;
  pages.reserve(entries.size() * static_cast<size_t>(table.max_pages));
  for (const Segment& s : entries) {
    if (s.block_table_row == kZeroPage) {
      pages.resize(pages.size() + static_cast<size_t>(table.max_pages), 0);
      continue;
    }
    const int32_t* row = table.entries.host + int64_t{s.block_table_row} * table.max_pages;
    pages.insert(pages.end(), row, row + table.max_pages);
  }
  if (some_see_nothing(segments)) {
    const size_t added = pages.size();
    pages.resize(added + static_cast<size_t>(rows_of(segments)), 0);
    for (const Segment& s : segments)
      if (s.kv_len == 0)
        std::fill_n(pages.begin() + static_cast<int64_t>(added) + s.q_begin - segments[0].q_begin, s.q_len,
                    kMinusInfinity);
  }
  return stage(card, pages);
}

// A plan's segments are all first halves, sequence by sequence, then all second ones: where the order of
// sequences falls back is its total_q_prev_tokens.
void attention(const Launcher& on, const AttentionArgs& args, const void* mask, bool halves_apart) {
  const std::vector<Segment> entries = entries_of(args.segments);
  const IndexArray pages = args.segment_pages.size
                               ? args.segment_pages
                               : upload(on, stage_pages(on.card, args.segments, args.block_table));
  const int64_t columns = args.block_table.max_pages, of_entries = std::ssize(entries) * columns;
  const int32_t rows = rows_of(args.segments);
  const bool some_see_none = some_see_nothing(args.segments);
  check(pages.size == of_entries + (some_see_none ? rows : 0), "attention: pages of these segments");
  for (size_t begin = 0, end = 0; begin < entries.size(); begin = end) {
    int32_t last = entries[begin].block_table_row;
    const auto goes_on = [&] {
      const int32_t row = entries[end].block_table_row;
      const bool half_ends = halves_apart && row != kZeroPage && row <= last;
      last = std::max(last, row);
      return end - begin < kMostEntries && !half_ends;
    };
    for (end = begin + 1; end < entries.size() && goes_on();) ++end;
    launch(on, args, std::span(entries).subspan(begin, end - begin),
           pages.device + static_cast<int64_t>(begin) * columns, mask);
  }
  if (some_see_none && args.lse_ln.data)  // they have seen a key of zeros
    add_to(on, column_of(pages.device + of_entries, rows),
           args.lse_ln.slice_rows(args.segments[0].q_begin, rows));
}

void check_fused_attention(Card& card, const AscendKvPool& pool, const void* mask) {
  card.enter();
  const auto& op = card.cann().ops.fused_attention;
  if (!op.describe)
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("backend ascend: the installed CANN ({}) lacks the operator {}{}; looked in {}",
                    card.cann().version(), op.name, other_versions(card), card.cann().operator_libraries()));
  const KvShape& shape = pool.shape;
  const int64_t kv_heads = shape.heads_k, heads = shape.heads_q ? shape.heads_q : kv_heads;
  const DeviceBuffer q(card, heads * shape.dim_k * 2), o(card, heads * shape.dim_v * 2), t(card, 4);
  const Tensor query = make_tensor(card, q.data(), kAclBf16, {1, heads, shape.dim_k});
  const Tensor out = make_tensor(card, o.data(), kAclBf16, {1, heads, shape.dim_v});
  const Tensor table = make_tensor(card, t.data(), kAclInt32, {1, 1});
  const Tensor masked = causal_mask(card, mask);
  const TensorList key = pages(card, pool, pool.k_rows(0)), value = pages(card, pool, pool.v_rows(0));
  const IntArray one = make_integers(card, std::vector<int64_t>{1});
  AclStatus status = 0;
  uint64_t bytes = 0;
  Executor never_run;
  with_arguments({.query = query.get(),
                  .mask = masked.get(),
                  .block_table = table.get(),
                  .out = out.get(),
                  .key = key.get(),
                  .value = value.get(),
                  .query_ends = one.get(),
                  .kv_lengths = one.get(),
                  .heads = heads,
                  .kv_heads = kv_heads,
                  .page_size = shape.page_size},
                 [&](auto... a) { status = describe(card, op, bytes, never_run, a...); });
  if (refuses(status))
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("backend ascend: {} of CANN {} refuses {} query heads, {} key heads of head dim {} "
                    "(values {}) in its layout TND with {}: {}{}; use a newer CANN",
                    op.name, card.cann().version(), heads, kv_heads, shape.dim_k, shape.dim_v, status,
                    card.recent_error(), other_versions(card)));
  card.check(status, op.name);
}

}  // namespace longspan::ascend
