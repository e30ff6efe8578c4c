#include "kv/kv_cache.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>

namespace longspan {
namespace {

std::vector<int32_t> iota(int32_t count, int32_t first = 0) {
  std::vector<int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

void check_all(const KvCache& cache, std::initializer_list<const KvSequence*> live) {
  cache.check_integrity(std::vector<const KvSequence*>(live));
}

TEST(KvCache, ReservesAllPagesAtAdmission) {
  KvCache cache({.num_pages = 9, .page_size = 4});
  EXPECT_EQ(cache.total_pages(), 8);
  EXPECT_EQ(cache.pages_needed(0), 0);
  EXPECT_EQ(cache.pages_needed(4), 1);
  EXPECT_EQ(cache.pages_needed(5), 2);
  EXPECT_TRUE(cache.can_ever_fit(32));
  EXPECT_FALSE(cache.can_ever_fit(33));

  auto a = cache.admit(iota(6), 10);
  ASSERT_TRUE(a);
  EXPECT_EQ(a->pages(), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(a->cached_tokens(), 0);
  EXPECT_EQ(a->length(), 0);
  std::vector<int32_t> row(5, -1);
  cache.export_row(*a, row);
  EXPECT_EQ(row, (std::vector<int32_t>{1, 2, 3, 0, 0}));
  EXPECT_EQ(cache.free_pages(), 5);
  EXPECT_EQ(cache.used_pages(), 3);

  EXPECT_FALSE(cache.admit(iota(1), 21)) << "six pages, five are free";
  check_all(cache, {&*a});
  auto b = cache.admit(iota(1), 20);
  ASSERT_TRUE(b);
  EXPECT_EQ(cache.free_pages(), 0);
  check_all(cache, {&*a, &*b});
  cache.release(*a);
  cache.release(*b);
  EXPECT_TRUE(a->pages().empty());
  EXPECT_EQ(cache.free_pages(), 8);
  check_all(cache, {});
}

TEST(KvCache, FindsAllButTheLastToken) {
  KvCache cache({.num_pages = 20, .page_size = 4});
  auto a = cache.admit(iota(11), 12);
  cache.commit(*a, iota(11), 11);
  EXPECT_EQ(a->length(), 11);
  cache.release(*a);
  EXPECT_EQ(cache.cached_pages(), 3);
  EXPECT_EQ(cache.used_pages(), 0);

  const std::map<int32_t, int64_t> cached_by_prompt_length = {{1, 0}, {4, 3},   {5, 4},   {8, 7},
                                                              {9, 8}, {11, 10}, {12, 11}, {13, 11}};
  for (const auto& [length, cached] : cached_by_prompt_length) {
    EXPECT_EQ(cache.cached_tokens(iota(length)), cached);
    auto b = cache.admit(iota(length), 16);
    EXPECT_EQ(b->cached_tokens(), cached) << length;
    EXPECT_EQ(b->length(), cached);
    EXPECT_EQ(b->pages().size(), 4u);
    ASSERT_EQ(b->tail_copy().has_value(), cached % 4 != 0);
    if (b->tail_copy()) {
      EXPECT_EQ(b->tail_copy()->to, b->pages()[cached / 4]);
      EXPECT_EQ(b->tail_copy()->tokens, cached % 4);
    }
    check_all(cache, {&*b});
    cache.release(*b);
  }
  auto whole = cache.admit(iota(12), 12, /*reuse_prefix=*/false);
  EXPECT_EQ(whole->cached_tokens(), 0);
  EXPECT_FALSE(whole->tail_copy());
  cache.release(*whole);

  std::vector<int32_t> other = iota(12);
  other[5] = 99;
  auto c = cache.admit(other, 12);
  EXPECT_EQ(c->cached_tokens(), 5) << "the second page differs from its second token on";
  cache.release(*c);
  check_all(cache, {});
}

// A page is copied from while its maker writes on behind the rows that were known then.
TEST(KvCache, ThePromptsLastPageIsThereWhileTheAnswerIsWritten) {
  KvCache cache({.num_pages = 20, .page_size = 4});
  auto a = cache.admit(iota(6), 12);
  cache.commit(*a, iota(6), 5);
  EXPECT_EQ(cache.cached_tokens(iota(6)), 4) << "whole pages alone until the prompt is done";
  cache.commit(*a, iota(6), 6);
  EXPECT_EQ(cache.cached_tokens(iota(7)), 6);
  cache.commit(*a, iota(7), 7);
  auto b = cache.admit(iota(7), 12);
  ASSERT_TRUE(b->tail_copy());
  EXPECT_EQ(b->tail_copy()->from, a->pages()[1]);
  EXPECT_EQ(b->tail_copy()->tokens, 2);
  check_all(cache, {&*a, &*b});
  cache.commit(*a, iota(8), 8);
  EXPECT_EQ(cache.cached_tokens(iota(9)), 8) << "full now";
  cache.commit(*b, iota(8), 8);
  EXPECT_EQ(b->pages()[1], a->pages()[1]) << "twins end up on one page";
  check_all(cache, {&*a, &*b});
  cache.release(*a, iota(8));
  cache.release(*b, iota(8));
  check_all(cache, {});
}

TEST(KvCache, WhatWasAnsweredIsFoundToItsLastToken) {
  KvCache cache({.num_pages = 20, .page_size = 4});
  auto a = cache.admit(iota(5), 12);
  cache.commit(*a, iota(5), 5);
  for (int32_t computed = 6; computed <= 10; ++computed) cache.commit(*a, iota(computed), computed);
  cache.release(*a, iota(10));
  check_all(cache, {});
  EXPECT_EQ(cache.cached_tokens(iota(11)), 10);
}

TEST(KvCache, SaltsKeepPrefixesApart) {
  KvCache cache({.num_pages = 20, .page_size = 4});
  auto a = cache.admit(iota(10), 10, true, 0, "red");
  cache.commit(*a, iota(10), 10);
  EXPECT_EQ(cache.cached_tokens(iota(10)), 0);
  EXPECT_EQ(cache.cached_tokens(iota(10), "blue"), 0);
  EXPECT_EQ(cache.cached_tokens(iota(10), "red"), 9);
  auto b = cache.admit(iota(10), 10, true, 0, "blue");
  EXPECT_EQ(b->cached_tokens(), 0);
  cache.commit(*b, iota(10), 10);
  EXPECT_NE(a->pages()[0], b->pages()[0]);
  check_all(cache, {&*a, &*b});
  cache.release(*a);
  cache.release(*b);
}

// What nobody uses goes for the copy, but not the source.
TEST(KvCache, ATailIsCopiedIntoAFullPool) {
  KvCache cache({.num_pages = 3, .owners = 2, .page_size = 4});  // two pages each
  auto x = cache.admit(iota(3, 50), 3), y = cache.admit(iota(3, 80), 3), a = cache.admit(iota(7), 7);
  EXPECT_EQ(cache.place(x->pages()[0]).owner, 0);
  EXPECT_EQ(cache.place(y->pages()[0]).owner, 1);
  EXPECT_EQ(cache.place(a->pages()[1]).owner, 1) << "the tail to come";
  cache.commit(*x, iota(3, 50), 3);
  cache.commit(*y, iota(3, 80), 3);
  cache.commit(*a, iota(7), 7);
  for (auto* sequence : {&*x, &*y, &*a}) cache.release(*sequence);
  EXPECT_EQ(cache.cached_pages(), 4);
  auto b = cache.admit(iota(8), 8);
  ASSERT_TRUE(b && b->tail_copy());
  EXPECT_EQ(b->cached_tokens(), 7);
  EXPECT_EQ(cache.cached_tokens(iota(8)), 7) << "the source is still there";
  EXPECT_EQ(cache.cached_tokens(iota(3, 80)), 0) << "its neighbour went";
  check_all(cache, {&*b});
  cache.release(*b);
}

// The copy stays within the source's pool; where all of that is in use, whole pages alone are shared.
TEST(KvCache, ATailIsCopiedWithinItsPool) {
  KvCache cache({.num_pages = 3, .owners = 2, .page_size = 4});  // two pages each
  auto a = cache.admit(iota(7), 7);
  cache.commit(*a, iota(7), 7);
  auto b = cache.admit(iota(8), 8);
  ASSERT_TRUE(b->tail_copy());
  EXPECT_EQ(b->cached_tokens(), 7);
  EXPECT_EQ(cache.place(b->tail_copy()->from).owner, cache.place(b->tail_copy()->to).owner);
  EXPECT_EQ(cache.free_pages(), 1) << "of the other pool";
  auto c = cache.admit(iota(8), 8);
  ASSERT_TRUE(c);
  EXPECT_FALSE(c->tail_copy());
  EXPECT_EQ(c->cached_tokens(), 4);
  check_all(cache, {&*a, &*b, &*c});
  for (auto* sequence : {&*a, &*b, &*c}) cache.release(*sequence);
}

TEST(KvCache, GrowsAndLeavesSparePages) {
  KvCache cache({.num_pages = 7, .page_size = 4});
  auto a = cache.admit(iota(4), 4);
  EXPECT_FALSE(cache.admit(iota(8, 50), 8, true, /*spare=*/4)) << "two and four are six; five are free";
  auto b = cache.admit(iota(8, 50), 8, true, /*spare=*/3);
  ASSERT_TRUE(b);
  EXPECT_TRUE(cache.grow(*a, 4));
  EXPECT_EQ(a->pages().size(), 1u) << "there is room already";
  EXPECT_TRUE(cache.grow(*a, 13));
  EXPECT_EQ(a->pages().size(), 4u);
  EXPECT_FALSE(cache.grow(*b, 9));
  EXPECT_EQ(b->pages().size(), 2u);
  check_all(cache, {&*a, &*b});
  cache.commit(*b, iota(8, 50), 8);
  cache.release(*b);
  EXPECT_TRUE(cache.grow(*a, 24)) << "cached pages go";
  EXPECT_EQ(cache.cached_pages(), 0);
  cache.release(*a);
}

TEST(KvCache, PrefixesAreSharedWhileTheirMakerStillRuns) {
  KvCache cache({.num_pages = 20, .page_size = 2});
  auto a = cache.admit(iota(7), 8);
  cache.commit(*a, iota(7), 5);  // in the middle of its prefill
  auto b = cache.admit(iota(7), 8);
  EXPECT_EQ(b->cached_tokens(), 4) << "whole pages";
  EXPECT_EQ(b->pages()[0], a->pages()[0]);
  EXPECT_EQ(b->pages()[1], a->pages()[1]);
  EXPECT_NE(b->pages()[2], a->pages()[2]);
  check_all(cache, {&*a, &*b});
  cache.release(*a);
  check_all(cache, {&*b});
  EXPECT_EQ(cache.used_pages(), 4);
  cache.release(*b);
}

TEST(KvCache, TwinsEndUpOnOnePage) {
  KvCache cache({.num_pages = 20, .page_size = 2});
  auto a = cache.admit(iota(6), 6);
  auto b = cache.admit(iota(6), 6);
  EXPECT_EQ(cache.used_pages(), 6);
  cache.commit(*a, iota(6), 6);
  cache.commit(*b, iota(6), 4);
  EXPECT_EQ(b->pages()[0], a->pages()[0]);
  EXPECT_EQ(b->pages()[1], a->pages()[1]);
  EXPECT_EQ(cache.used_pages(), 4);
  EXPECT_EQ(b->cached_tokens(), 0) << "it computed them itself";
  check_all(cache, {&*a, &*b});
  cache.release(*b);
  check_all(cache, {&*a});
  cache.release(*a);
  EXPECT_EQ(cache.cached_pages(), 3);
}

TEST(KvCache, GeneratedTokensAreCachedToo) {
  KvCache cache({.num_pages = 20, .page_size = 4});
  auto a = cache.admit(iota(3), 10);
  for (int32_t computed = 3; computed <= 9; ++computed) {
    cache.commit(*a, iota(computed), computed);
    check_all(cache, {&*a});
  }
  cache.release(*a);
  auto b = cache.admit(iota(10), 10);
  EXPECT_EQ(b->cached_tokens(), 8) << "the last page was not told of";
  cache.release(*b);
}

// A page that a later prompt shares stays where its first owner put it; only fresh ones are dealt out.
TEST(KvCache, SharedPagesKeepTheirOwner) {
  KvCache cache({.num_pages = 6, .owners = 2, .page_size = 4});
  EXPECT_EQ(cache.total_pages(), 10);
  EXPECT_TRUE(cache.can_ever_fit(40));
  auto a = cache.admit(iota(9), 12);
  std::vector<int32_t> row(3), owners(3);
  cache.export_row(*a, row, owners);
  EXPECT_EQ(owners, (std::vector<int32_t>{0, 1, 0}));
  EXPECT_EQ(row, (std::vector<int32_t>{1, 1, 2}));
  cache.commit(*a, iota(9), 9);
  cache.release(*a);
  auto b = cache.admit(iota(9), 16);
  EXPECT_EQ(b->cached_tokens(), 8);
  row.resize(4), owners.resize(4);
  cache.export_row(*b, row, owners);
  EXPECT_EQ(owners, (std::vector<int32_t>{0, 1, 1, 0})) << "a's third page is cached on owner 0";
  EXPECT_EQ(row, (std::vector<int32_t>{1, 1, 2, 3}));
  check_all(cache, {&*b});
  cache.release(*b);
}

TEST(KvCache, EvictsTheLeastRecentlyUsedAndLeavesFirst) {
  KvCache cache({.num_pages = 7, .page_size = 1});
  for (const int32_t first : {10, 20, 30}) {  // three documents of two pages
    auto s = cache.admit(iota(2, first), 2);
    cache.commit(*s, iota(2, first), 2);
    cache.release(*s);
  }
  EXPECT_EQ(cache.cached_pages(), 6);
  auto touch = cache.admit(iota(3, 10), 3);  // needs one more page: the leaf of 20 is the oldest now
  ASSERT_TRUE(touch);
  EXPECT_EQ(touch->cached_tokens(), 2);
  check_all(cache, {&*touch});
  auto probe = cache.admit(iota(3, 20), 3);
  ASSERT_TRUE(probe);
  EXPECT_EQ(probe->cached_tokens(), 1) << "the first page of 20 was no leaf";
  EXPECT_EQ(cache.cached_pages(), 0) << "the whole of 30 had to go for it";
  check_all(cache, {&*touch, &*probe});
  cache.release(*probe);
  cache.release(*touch);
  check_all(cache, {});
}

TEST(KvCache, ARefusedAdmissionEvictsNothing) {
  KvCache cache({.num_pages = 5, .page_size = 1});
  auto s = cache.admit(iota(2), 2);
  cache.commit(*s, iota(2), 2);
  cache.release(*s);
  auto busy = cache.admit(iota(2, 50), 2);
  ASSERT_TRUE(busy);
  EXPECT_FALSE(cache.admit(iota(3, 70), 3)) << "two cached pages are all there is";
  EXPECT_EQ(cache.cached_pages(), 2);
  // The match must not count as evictable for the very sequence that wants to keep it.
  EXPECT_FALSE(cache.admit(iota(3), 4));
  EXPECT_EQ(cache.cached_pages(), 2);
  check_all(cache, {&*busy});
  auto rest = cache.admit(iota(2, 90), 2);
  ASSERT_TRUE(rest);
  EXPECT_EQ(cache.cached_pages(), 0);
  cache.release(*rest);
  cache.release(*busy);
}

TEST(KvCache, WithoutPrefixCacheNothingIsShared) {
  KvCache cache({.num_pages = 20, .page_size = 2, .prefix_cache = false});
  auto a = cache.admit(iota(6), 6);
  cache.commit(*a, iota(6), 6);
  auto b = cache.admit(iota(6), 6);
  EXPECT_EQ(b->cached_tokens(), 0);
  check_all(cache, {&*a, &*b});
  cache.release(*a);
  cache.release(*b);
  EXPECT_EQ(cache.cached_pages(), 0);
  EXPECT_EQ(cache.free_pages(), 19);
}

TEST(KvCache, BrokenCallsAreFound) {
  KvCache cache({.num_pages = 20, .page_size = 2});
  EXPECT_THROW(cache.admit({}, 6), Error);
  EXPECT_THROW(cache.admit(iota(4), 3), Error);
  auto a = cache.admit(iota(4), 6);
  EXPECT_THROW(cache.commit(*a, iota(4), 5), Error) << "more computed than known";
  EXPECT_THROW(cache.commit(*a, iota(9), 7), Error) << "more than admitted for";
  cache.commit(*a, iota(4), 3);
  EXPECT_THROW(cache.commit(*a, iota(4), 2), Error) << "back";
  EXPECT_THROW(check_all(cache, {}), Error) << "a page's owner is unknown";
  EXPECT_THROW(check_all(cache, {&*a, &*a}), Error) << "an owner counts twice";
  check_all(cache, {&*a});
  cache.release(*a);
}

/// Requests come, run in chunks, generate, end or are cancelled, at random; every page is accounted for after
/// each step, and what a sequence reads as cached was computed from the very same tokens.
struct RandomRun {
  struct Live {
    KvSequence sequence;
    std::vector<int32_t> tokens;  // all it will ever have
    int64_t prompt = 0;
  };

  RandomRun(KvCacheOptions options, uint32_t seed) : options(options), cache(options), random(seed) {}

  int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random); }

  /// Owner and place of each page of a sequence.
  std::vector<std::pair<int32_t, int32_t>> places(const Live& live) const {
    std::vector<int32_t> row(live.sequence.pages().size()), owners(row.size());
    cache.export_row(live.sequence, row, owners);
    std::vector<std::pair<int32_t, int32_t>> result;
    for (size_t i = 0; i < row.size(); ++i) result.emplace_back(owners[i], row[i]);
    return result;
  }

  void write(Live& live, int64_t from, int64_t to) {
    const auto pages = places(live);
    for (int64_t t = from; t < to; ++t) {
      const auto page = pages[t / options.page_size];
      ASSERT_GE(page.second, 1);
      ASSERT_LT(page.second, options.num_pages);
      ASSERT_LT(page.first, options.owners);
      auto& rows = content[page];
      rows.resize(options.page_size);
      rows[t % options.page_size] = {live.tokens.begin(), live.tokens.begin() + t + 1};
    }
  }

  /// The KV of every computed token still depends on exactly the tokens before it.
  void read_back(const Live& live) {
    const auto pages = places(live);
    for (int64_t t = 0; t < live.sequence.length(); ++t) {
      const auto& row = content[pages[t / options.page_size]].at(t % options.page_size);
      ASSERT_EQ(static_cast<int64_t>(row.size()), t + 1);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), live.tokens.begin()));
    }
  }

  void step() {
    const int64_t what = below(10);
    if (what < 3) {
      Live live;
      const int64_t total = 1 + below(40);
      live.prompt = 1 + below(total);
      for (int64_t t = 0; t < total; ++t) live.tokens.push_back(below(8) == 0 ? 1 : 0);  // many equal starts
      const int64_t free = cache.free_pages(), cached = cache.cached_pages();
      auto sequence = cache.admit(std::span(live.tokens).first(live.prompt), total, below(5) != 0);
      if (!sequence) {
        ++refused;
        EXPECT_EQ(cache.free_pages(), free);
        EXPECT_EQ(cache.cached_pages(), cached);
        return;
      }
      EXPECT_LT(sequence->cached_tokens(), live.prompt);
      EXPECT_EQ(static_cast<int64_t>(sequence->pages().size()), cache.pages_needed(total));
      hits += sequence->cached_tokens() > 0;
      if (const auto& copy = sequence->tail_copy()) {
        const auto from = cache.place(copy->from), to = cache.place(copy->to);
        ASSERT_EQ(from.owner, to.owner);
        const auto source = content[{from.owner, from.local}];
        auto& rows = content[{to.owner, to.local}];
        rows.resize(options.page_size);
        std::copy_n(source.begin(), copy->tokens, rows.begin());
        ++copies;
      }
      live.sequence = std::move(*sequence);
      running.push_back(std::make_unique<Live>(std::move(live)));
    } else if (what < 8 && !running.empty()) {
      Live& live = *running[below(running.size())];
      const int64_t length = live.sequence.length(), left = live.tokens.size() - length;
      const int64_t computed = length + below(left + 1);
      write(live, length, computed);
      cache.commit(live.sequence, std::span(live.tokens).first(computed), computed);
    } else if (!running.empty()) {
      const int64_t i = below(running.size());
      if (below(2) == 0)
        cache.release(running[i]->sequence, running[i]->tokens);
      else
        cache.release(running[i]->sequence);
      running.erase(running.begin() + i);
    }
  }

  void verify() {
    std::vector<const KvSequence*> live;
    for (const auto& one : running) live.push_back(&one->sequence);
    cache.check_integrity(live);
    for (const auto& one : running) read_back(*one);
  }

  KvCacheOptions options;
  KvCache cache;
  std::map<std::pair<int32_t, int32_t>, std::vector<std::vector<int32_t>>>
      content;  // by owner and place: [offset] tokens that the row was made from
  std::mt19937 random;
  std::vector<std::unique_ptr<Live>> running;
  int64_t refused = 0, hits = 0, copies = 0;
};

class KvCacheRandom : public testing::TestWithParam<std::tuple<int32_t, int32_t>> {};  // page size, owners

TEST_P(KvCacheRandom, EveryPageIsAccountedForAfterEachStep) {
  const auto [page_size, owners] = GetParam();
  for (const bool prefix_cache : {true, false}) {
    RandomRun run({.num_pages = 1 + 120 / page_size / owners,
                   .owners = owners,
                   .page_size = page_size,
                   .prefix_cache = prefix_cache},
                  7);
    for (int i = 0; i < 4000; ++i) {
      run.step();
      run.verify();
      if (HasFatalFailure()) FAIL() << "step " << i;
    }
    EXPECT_GT(run.refused, 0) << "the pool never ran short";
    EXPECT_EQ(run.hits > 0, prefix_cache);
    EXPECT_EQ(run.copies > 0, prefix_cache && page_size > 1);
    for (auto& live : run.running) run.cache.release(live->sequence);
    run.running.clear();
    run.verify();
    EXPECT_EQ(run.cache.used_pages(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(PageSizes, KvCacheRandom,
                         testing::Combine(testing::Values(1, 2, 3, 5), testing::Values(1, 3)));

}  // namespace
}  // namespace longspan
