#include <algorithm>

#include "device/ascend/kernels.h"

namespace longspan::ascend {
namespace {

/// The parts of T rows that some row has.
struct Parts {
  int64_t size = 0;
  bool some_lack = false;  // one of these
};

Parts parts_of(std::span<const int32_t> rows, int64_t count) {
  Parts parts;
  for (auto part = rows; !part.empty(); part = part.subspan(static_cast<size_t>(count))) {
    const int64_t lack = std::count(part.begin(), part.begin() + count, -1);
    if (lack == count) continue;
    ++parts.size;
    parts.some_lack |= lack > 0;
  }
  return parts;
}

/// Results of some keys: out f32 [T, Hq * Dv], lse f32 [T, Hq], without gaps.
struct Partial {
  Matrix out, lse;
  Partial rows(int64_t begin, int64_t count) const {
    return {out.slice_rows(begin, count), lse.slice_rows(begin, count)};
  }
};

Partial make_partial(const Launcher& on, const MergeArgs& args, int64_t rows) {
  return {on.scratch(rows, args.out.cols, DType::kF32), on.scratch(rows, args.heads_q, DType::kF32)};
}

// As AttentionUpdate takes them: [T * Hq, Dv] and [T * Hq].
Tensor by_heads(const Launcher& on, Matrix out, int64_t heads) {
  return make_tensor(on.card, out.data, kAclFloat, {out.rows * heads, out.cols / heads});
}
Tensor flat(const Launcher& on, Matrix lse) {
  return make_tensor(on.card, lse.data, kAclFloat, {lse.rows * lse.cols});
}

void update(const Launcher& on, const std::vector<Partial>& parts, int64_t heads, const Partial& to) {
  std::vector<Tensor> outs, sums;
  for (const Partial& part : parts) {
    outs.push_back(by_heads(on, part.out, heads));
    sums.push_back(flat(on, part.lse));
  }
  constexpr int64_t kGivesLse = 1;
  call(on, on.card.cann().ops.attention_update, make_list(on.card, std::move(sums)).get(),
       make_list(on.card, std::move(outs)).get(), kGivesLse, by_heads(on, to.out, heads).get(),
       flat(on, to.lse).get());
}

}  // namespace

StagedIndices stage_parts(Card& card, std::span<const int32_t> rows, int64_t count) {
  if (rows.empty()) return {};
  const auto each = static_cast<size_t>(count);
  std::vector<int32_t> stand_ins(each, -1), table, added;
  for (size_t i = 0; i < rows.size(); ++i)
    if (int32_t& first = stand_ins[i % each]; first < 0) first = rows[i];
  check(std::ranges::none_of(stand_ins, [](int32_t row) { return row < 0; }), "every row has a part");
  for (auto part = rows; !part.empty(); part = part.subspan(each)) {
    if (std::count(part.begin(), part.begin() + count, -1) == count) continue;
    for (size_t t = 0; t < each; ++t) {
      table.push_back(part[t] < 0 ? stand_ins[t] : part[t]);
      added.push_back(part[t] < 0 ? kMinusInfinity : 0);
    }
  }
  if (std::ranges::count(added, kMinusInfinity) > 0) table.insert(table.end(), added.begin(), added.end());
  return stage(card, table);
}

void merge_partials(const Launcher& on, const MergeArgs& args) {
  const int64_t count = args.out.rows;
  const auto rows = std::span(args.rows.host, static_cast<size_t>(args.rows.size));
  const Parts parts = parts_of(rows, count);
  const IndexArray table = args.parts.size ? args.parts : upload(on, stage_parts(on.card, rows, count));
  check(table.size == parts.size * count * (parts.some_lack ? 2 : 1), "merge_partials: parts of these rows");
  Partial merged;
  for (int64_t done = 0; done < parts.size;) {
    std::vector<Partial> members;
    if (done > 0) members.push_back(merged);
    const int64_t taken = std::min<int64_t>(parts.size - done, kMostParts - std::ssize(members));
    const Partial picked = make_partial(on, args, taken * count);
    select_rows(on, args.partials, table.device + done * count, picked.out);
    select_rows(on, args.lse_ln, table.device + done * count, picked.lse);
    if (parts.some_lack)
      add_to(on, column_of(table.device + (parts.size + done) * count, taken * count), picked.lse);
    for (int64_t i = 0; i < taken; ++i) members.push_back(picked.rows(i * count, count));
    done += taken;
    merged = members[0];
    if (members.size() == 1) continue;
    merged = make_partial(on, args, count);
    update(on, members, args.heads_q, merged);
  }
  copy(on, merged.out, args.out);
  if (args.out_lse_ln.data) copy(on, merged.lse, args.out_lse_ln);
}

}  // namespace longspan::ascend
