#include "engine/step_orders.h"

#include <algorithm>

#include "base/check.h"
#include "engine/together.h"

namespace longspan {
namespace {

// Calls each(float&) or each(span) for everything that `rank` reports, in an order that all ranks know.
template <class EachLogits, class EachScore>
void for_each_reported(const Layout& layout, int32_t rank, const CpPlan& plan, const StepWants& wants,
                       EachLogits each_logits, EachScore each_score) {
  const RankCoordinates at = layout.coordinates(rank);
  if (at.attn_tp_rank != 0) return;
  for (size_t s = 0; s < plan.last_token.size(); ++s)
    if (plan.last_token[s].rank == at.cp_rank && wants.logits[s]) each_logits(s);
  if (wants.score_targets.empty()) return;
  for (const int32_t token : plan.ranks[at.cp_rank].token_index)
    if (wants.score_targets[token] >= 0) each_score(static_cast<size_t>(token));
}

void append_rows(const BatchLayout& layout, std::vector<int32_t>& words) {
  words.insert(words.end(), {static_cast<int32_t>(layout.rows.size()), layout.max_pages, layout.page_size,
                             !layout.page_owner.empty()});
  for (const BatchRow& row : layout.rows) words.insert(words.end(), {row.new_tokens, row.prefix_len});
}

/// A table whose other cells are known to be those of `base`, 0 where that is shorter.
void append_changes(const std::vector<int32_t>& table, const std::vector<int32_t>& base,
                    std::vector<int32_t>& words) {
  const size_t count = words.size();
  words.push_back(0);
  for (size_t cell = 0; cell < table.size(); ++cell) {
    if (table[cell] == (cell < base.size() ? base[cell] : 0)) continue;
    words.insert(words.end(), {static_cast<int32_t>(cell), table[cell]});
    ++words[count];
  }
}

/// Takes an order apart from its front.
struct Words {
  std::span<const int32_t> left;

  std::span<const int32_t> take(size_t count) {
    check(count <= left.size(), "an order has all its words");
    const auto taken = left.first(count);
    left = left.subspan(count);
    return taken;
  }
  std::vector<int32_t> vector(size_t count) {
    const auto taken = take(count);
    return {taken.begin(), taken.end()};
  }
  BatchLayout rows() {
    const auto head = take(4);
    BatchLayout layout;
    layout.max_pages = head[1];
    layout.page_size = head[2];
    for (int32_t s = 0; s < head[0]; ++s) {
      const auto row = take(2);
      layout.rows.push_back({.new_tokens = row[0], .prefix_len = row[1]});
    }
    layout.block_table.resize(static_cast<size_t>(head[0]) * static_cast<size_t>(head[1]));
    layout.page_owner.resize(head[3] ? layout.block_table.size() : 0);
    return layout;
  }
  void changes(std::vector<int32_t>& table, const std::vector<int32_t>& base) {
    std::copy_n(base.begin(), std::min(base.size(), table.size()), table.begin());
    for (int32_t count = take(1)[0]; count > 0; --count) {
      const auto change = take(2);
      check(change[0] >= 0 && static_cast<size_t>(change[0]) < table.size(),
            "an order changes its own cells");
      table[static_cast<size_t>(change[0])] = change[1];
    }
  }
};

}  // namespace

// [T, copies, has targets | rows | block table | page owners | next rows | changes to block table | changes
// to page owners | wanted of each row | owner, from, to and tokens of each copy | token ids | targets]. Rows:
// [rows, max_pages, page_size, has owners | new_tokens and prefix_len of each]; changes: [count | cell and
// value of each].
std::vector<int32_t> encode(const Batch& batch, const StepWants& wants) {
  std::vector<int32_t> words = {static_cast<int32_t>(batch.token_ids.size()),
                                static_cast<int32_t>(batch.copies.size()), !wants.score_targets.empty()};
  append_rows(batch, words);
  for (const auto* table : {&batch.block_table, &batch.page_owner})
    words.insert(words.end(), table->begin(), table->end());
  append_rows(batch.next, words);
  append_changes(batch.next.block_table, batch.block_table, words);
  append_changes(batch.next.page_owner, batch.page_owner, words);
  words.insert(words.end(), wants.logits.begin(), wants.logits.end());
  for (const RowCopy& copy : batch.copies)
    words.insert(words.end(), {copy.owner, copy.from, copy.to, copy.tokens});
  for (const auto* part : {&batch.token_ids, &wants.score_targets})
    words.insert(words.end(), part->begin(), part->end());
  return words;
}

StepOrder decode_step(std::span<const int32_t> words) {
  Words order_words{words};
  const auto head = order_words.take(3);
  StepOrder order;
  Batch& batch = order.batch;
  static_cast<BatchLayout&>(batch) = order_words.rows();
  for (auto* table : {&batch.block_table, &batch.page_owner}) *table = order_words.vector(table->size());
  batch.next = order_words.rows();
  order_words.changes(batch.next.block_table, batch.block_table);
  order_words.changes(batch.next.page_owner, batch.page_owner);
  const auto wanted = order_words.take(batch.rows.size());
  order.wants.logits.assign(wanted.begin(), wanted.end());
  for (int32_t i = 0; i < head[1]; ++i) {
    const auto copy = order_words.take(4);
    batch.copies.push_back({.owner = copy[0], .from = copy[1], .to = copy[2], .tokens = copy[3]});
  }
  batch.token_ids = order_words.vector(static_cast<size_t>(head[0]));
  order.wants.score_targets = order_words.vector(head[2] ? static_cast<size_t>(head[0]) : 0);
  check(order_words.left.empty(), "an order has no more words");
  return order;
}

StepOrders::StepOrders(Job& job, const Layout& layout, std::chrono::milliseconds limit)
    : job_(job), layout_(layout), orders_(everyone(job, kOrders)), results_(everyone(job, kResults, limit)) {}

void StepOrders::broadcast(std::vector<int32_t>& words) {
  auto count = static_cast<int64_t>(words.size());
  orders_->broadcast(std::as_writable_bytes(std::span(&count, 1)), 0, "the next step");
  words.resize(static_cast<size_t>(count));
  orders_->broadcast(std::as_writable_bytes(std::span(words)), 0, "the next step");
}

void StepOrders::send(const Batch& batch, const StepWants& wants) {
  std::vector<int32_t> words = encode(batch, wants);
  broadcast(words);
}

void StepOrders::send_end() {
  std::vector<int32_t> nothing;
  broadcast(nothing);
}

std::optional<StepOrder> StepOrders::receive() {
  std::vector<int32_t> words;
  broadcast(words);
  if (words.empty()) return std::nullopt;
  return decode_step(words);
}

void StepOrders::collect(const CpPlan& plan, const StepWants& wants, int64_t vocab_size, StepOutput& output) {
  constexpr int64_t kFloat = sizeof(float);
  const int32_t rank = job_.rank(), size = job_.size();
  std::vector<int64_t> recv_bytes;
  const auto reported_bytes = [&](int32_t of) {
    int64_t floats = 0;
    for_each_reported(
        layout_, of, plan, wants, [&](size_t) { floats += vocab_size; }, [&](size_t) { ++floats; });
    return floats * kFloat;
  };
  std::vector<float> send, recv;
  if (rank != 0) {
    for_each_reported(
        layout_, rank, plan, wants,
        [&](size_t s) { send.insert(send.end(), output.logits[s].begin(), output.logits[s].end()); },
        [&](size_t token) { send.push_back(output.scores[token]); });
    check(std::ssize(send) * kFloat == reported_bytes(rank), "a rank reports whole rows");
  } else {
    int64_t bytes = 0;
    for (int32_t from = 0; from < size; ++from)  // its own are there
      bytes += recv_bytes.emplace_back(from == 0 ? 0 : reported_bytes(from));
    recv.resize(static_cast<size_t>(bytes / kFloat));
  }
  results_->gather_v(std::as_bytes(std::span(send)), std::as_writable_bytes(std::span(recv)), recv_bytes, 0,
                     "results");
  if (rank != 0) return;
  const float* next = recv.data();
  for (int32_t from = 1; from < size; ++from) {
    for_each_reported(
        layout_, from, plan, wants,
        [&](size_t s) {
          output.logits[s].assign(next, next + vocab_size);
          next += vocab_size;
        },
        [&](size_t token) { output.scores[token] = *next++; });
  }
}

}  // namespace longspan
