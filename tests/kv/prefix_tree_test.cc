#include "kv/prefix_tree.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

namespace longspan {
namespace {

using Tokens = std::vector<int32_t>;

struct Tree : testing::Test {
  static constexpr int32_t kPageSize = 2;
  PageAllocator allocator{30};
  PrefixTree tree{&allocator, kPageSize};

  std::vector<int32_t> fresh(int64_t count) { return *allocator.allocate(count); }
  /// The full pages of a match, with a reference to each.
  std::vector<int32_t> hold(const Tokens& tokens, const std::string& salt = "") {
    const auto pages = tree.match(tokens, salt).pages;
    tree.adopt(pages);
    return pages;
  }
  int32_t alike(const Tokens& tokens, const std::string& salt = "") const {
    const auto match = tree.match(tokens, salt);
    return match.partial ? match.partial->tokens : 0;
  }
  /// Drops the caller's references.
  void release(const std::vector<int32_t>& pages) {
    for (const int32_t page : pages) allocator.drop_ref(page);
    if (!pages.empty() && tree.contains(pages[0])) tree.on_release(pages);
  }
  void check_all() {
    allocator.check_integrity();
    tree.check_integrity();
  }
};

TEST_F(Tree, MatchesTheLongestRunOfFullPages) {
  const auto pages = fresh(3);
  EXPECT_EQ(tree.insert(Tokens{1, 2, 3, 4, 5, 6}, pages, 0), pages);
  EXPECT_EQ(tree.pages(), 3);
  EXPECT_EQ(tree.evictable_pages(), 0) << "the caller holds them";
  const std::map<Tokens, size_t> found = {{{}, 0},
                                          {{1}, 0},
                                          {{1, 2}, 1},
                                          {{1, 2, 3}, 1},
                                          {{1, 2, 3, 4, 5, 6, 7, 8}, 3},
                                          {{1, 2, 3, 9, 5, 6}, 1},
                                          {{3, 4}, 0},
                                          {{2, 1}, 0}};
  for (const auto& [tokens, count] : found) {
    const auto match = hold(tokens);
    EXPECT_EQ(match, std::vector<int32_t>(pages.begin(), pages.begin() + count));
    for (const int32_t page : match) EXPECT_EQ(allocator.refs(page), 3) << "maker, tree, this match";
    release(match);
    check_all();
  }
  release(pages);
  EXPECT_EQ(tree.evictable_pages(), 3);
  check_all();
}

TEST_F(Tree, BranchesShareTheirStart) {
  const auto a = fresh(3), b = fresh(3);
  tree.insert(Tokens{1, 2, 3, 4, 5, 6}, a, 0);
  const auto held = tree.insert(Tokens{1, 2, 3, 4, 7, 8}, b, 0);
  EXPECT_EQ(held, (std::vector<int32_t>{a[0], a[1], b[2]})) << "the existing page wins";
  EXPECT_EQ(tree.pages(), 4);
  EXPECT_EQ(allocator.refs(a[0]), 3);
  EXPECT_EQ(allocator.refs(b[0]), 1) << "the caller's own";
  EXPECT_FALSE(tree.contains(b[0]));
  allocator.drop_ref(b[0]);
  allocator.drop_ref(b[1]);
  release(held);
  release(a);
  check_all();
  EXPECT_EQ(tree.evictable_pages(), 4);
}

TEST_F(Tree, GrowsFromWhatIsKnown) {
  const auto pages = fresh(4);
  const Tokens tokens = {1, 2, 3, 4, 5, 6, 7, 8};
  tree.insert(std::span(tokens).first(4), std::span(pages).first(2), 0);
  EXPECT_EQ(tree.insert(tokens, pages, 2), (std::vector<int32_t>{pages[2], pages[3]}));
  EXPECT_EQ(hold(tokens), pages);
  release(pages);
  release(pages);
  check_all();
}

TEST_F(Tree, ThePathIsPartOfTheKey) {
  // The same tokens in other pages of the path are other nodes: KV depends on everything before.
  const auto pages = fresh(2);
  tree.insert(Tokens{7, 7, 7, 7}, pages, 0);
  EXPECT_EQ(hold({7, 7, 7, 7, 7, 7}), pages);
  release(pages);
  release(pages);
  check_all();
}

TEST_F(Tree, EvictsLeavesFirstAndTheOldestBefore) {
  const auto a = fresh(2), b = fresh(2);
  tree.insert(Tokens{1, 1, 2, 2}, a, 0);
  tree.insert(Tokens{3, 3, 4, 4}, b, 0);
  release(b);
  release(a);
  EXPECT_EQ(tree.evict(1), 1);
  EXPECT_FALSE(tree.contains(b[1])) << "b was released before a";
  EXPECT_TRUE(tree.contains(b[0]));
  EXPECT_EQ(tree.evict(1), 1);
  EXPECT_FALSE(tree.contains(b[0])) << "now a leaf, and older than a";
  check_all();

  const auto again = hold({1, 1, 2, 2});
  EXPECT_EQ(tree.evict(5), 0) << "in use";
  release(again);
  EXPECT_EQ(tree.evict(5), 2);
  EXPECT_EQ(tree.pages(), 0);
  EXPECT_EQ(allocator.free_pages(), 29);
  check_all();
}

TEST_F(Tree, AMatchMakesAPageYoungAgain) {
  const auto a = fresh(1), b = fresh(1);
  tree.insert(Tokens{1, 1}, a, 0);
  tree.insert(Tokens{2, 2}, b, 0);
  release(a);
  release(b);
  release(hold({1, 1}));
  EXPECT_EQ(tree.evict(1), 1);
  EXPECT_TRUE(tree.contains(a[0]));
  EXPECT_FALSE(tree.contains(b[0]));
  check_all();
}

TEST_F(Tree, AParentInUseByABranchStays) {
  const auto a = fresh(2);
  tree.insert(Tokens{1, 1, 2, 2}, a, 0);
  const auto start = hold({1, 1});
  release(a);
  EXPECT_EQ(tree.evictable_pages(), 1);
  EXPECT_EQ(tree.evict(2), 1);
  EXPECT_TRUE(tree.contains(a[0]));
  release(start);
  EXPECT_EQ(tree.evict(2), 1);
  check_all();
}

struct WideTree : Tree {
  PageAllocator wide_allocator{30};
  PrefixTree wide{&wide_allocator, 4};
};

TEST_F(WideTree, FindsTheMostTokensAlikeBehindAMatch) {
  const auto pages = *wide_allocator.allocate(4);
  wide.insert(Tokens{1, 2, 3, 4, 5, 6, 7, 8}, std::span(pages).first(2), 0);
  wide.insert(Tokens{1, 2, 3, 4, 5, 6, 9, 9}, std::vector<int32_t>{pages[0], pages[2]}, 1);
  wide.insert_partial(Tokens{5, 6, 7}, pages[3], std::span(pages).first(1));
  EXPECT_EQ(wide.pages(), 3) << "the full page has these rows already";
  wide.insert_partial(Tokens{5, 1}, pages[3], std::span(pages).first(1));
  EXPECT_EQ(wide.pages(), 4);
  const std::map<Tokens, std::pair<int32_t, int32_t>> wanted = {{{1, 2, 3, 4}, {0, 0}},
                                                                {{1, 2, 3, 4, 8}, {0, 0}},
                                                                {{1, 2, 3, 4, 5, 6, 7}, {pages[1], 3}},
                                                                {{1, 2, 3, 4, 5, 6, 9, 8, 8}, {pages[2], 3}},
                                                                {{1, 2, 3, 4, 5, 1, 7, 8}, {pages[3], 2}},
                                                                {{1, 2, 3, 4, 5, 1}, {pages[3], 2}},
                                                                {{1, 2, 9}, {pages[0], 2}}};
  for (const auto& [tokens, found] : wanted) {
    const auto match = wide.match(tokens);
    const PartialPage partial = match.partial.value_or(PartialPage{});
    EXPECT_EQ(std::pair(partial.page, partial.tokens), found) << testing::PrintToString(tokens);
  }
  wide.check_integrity();
}

TEST_F(WideTree, APartlyFilledPageGrowsAndBecomesAWholeOne) {
  const auto pages = *wide_allocator.allocate(2);
  wide.insert_partial(Tokens{1}, pages[0], {});
  wide.insert_partial(Tokens{1, 2, 3}, pages[0], {});
  wide.insert_partial(Tokens{1, 2}, pages[0], {});
  EXPECT_EQ(wide.match(Tokens{1, 2, 3, 4}).partial->tokens, 3);
  EXPECT_TRUE(wide.match(Tokens{1, 2, 3, 4}).pages.empty());
  EXPECT_EQ(wide.insert(Tokens{1, 2, 3, 4}, std::span(pages).first(1), 0), (std::vector<int32_t>{pages[0]}));
  EXPECT_EQ(wide_allocator.refs(pages[0]), 2) << "the tree's and the caller's";
  EXPECT_EQ(wide.match(Tokens{1, 2, 3, 4}).pages, (std::vector<int32_t>{pages[0]}));
  wide.check_integrity();
  // A page whose rows turn out to be those of another stays what it is.
  wide.insert_partial(Tokens{1, 9}, pages[1], {});
  EXPECT_THROW(wide.insert(Tokens{1, 2, 3, 4, 5, 6, 7, 8}, std::vector<int32_t>{pages[0], pages[1]}, 1),
               Error)
      << "it stands elsewhere";
}

TEST_F(Tree, SaltsAreStrangers) {
  const auto a = fresh(2), b = fresh(2);
  EXPECT_EQ(tree.insert(Tokens{1, 1, 2, 2}, a, 0, "red"), a);
  EXPECT_EQ(tree.insert(Tokens{1, 1, 2, 2}, b, 0), b) << "not found under another salt";
  EXPECT_EQ(tree.match(Tokens{1, 1, 2, 2}, "red").pages, a);
  EXPECT_EQ(tree.match(Tokens{1, 1, 2, 2}).pages, b);
  EXPECT_TRUE(tree.match(Tokens{1, 1, 2, 2}, "blue").pages.empty());
  EXPECT_EQ(alike({1, 9}, "red"), 1);
  EXPECT_EQ(alike({1, 9}, "blue"), 0);
  release(a);
  check_all();
}

TEST_F(Tree, BrokenCallsAreFound) {
  const auto a = fresh(2);
  EXPECT_THROW(tree.insert(Tokens{1, 1, 2}, a, 0), Error) << "not full";
  EXPECT_THROW(tree.insert(Tokens{1, 1, 2, 2}, a, 1), Error) << "the first page is not in the tree";
  EXPECT_THROW(tree.insert(Tokens{1, 1, 2, 2}, a, 3), Error);
  EXPECT_THROW(tree.insert(Tokens{1, 1, 2, 2}, std::vector<int32_t>{a[0], a[0]}, 0), Error)
      << "one page twice";
  EXPECT_THROW(tree.on_release(std::span(a).last(1)), Error) << "not in the tree";
  EXPECT_THROW(tree.insert_partial(Tokens{}, a[0], {}), Error);
  EXPECT_THROW(tree.insert_partial(Tokens{1, 1}, a[0], {}), Error) << "a full page";
  EXPECT_THROW(tree.insert_partial(Tokens{1}, a[0], std::span(a).last(1)), Error) << "no such path";
  EXPECT_THROW(PrefixTree(&allocator, 0), Error);
}

/// Against a model that keeps every path as a list of tokens.
TEST(PrefixTreeRandom, FindsWhatAMapOfPathsFinds) {
  std::mt19937 random(11);
  const auto below = [&](int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(random); };
  constexpr int32_t kPageSize = 3;
  PageAllocator allocator(60);
  PrefixTree tree(&allocator, kPageSize);
  std::map<Tokens, int32_t> paths;  // all tokens to a page's end -> page
  std::vector<std::vector<int32_t>> held;
  int64_t evictions = 0;

  for (int step = 0; step < 20000; ++step) {
    Tokens tokens(kPageSize * (1 + below(5)));
    for (int32_t& token : tokens) token = below(6) == 0;
    const int64_t what = below(4);
    if (what == 0 && allocator.free_pages() >= static_cast<int64_t>(tokens.size()) / kPageSize) {
      const auto pages = *allocator.allocate(static_cast<int64_t>(tokens.size()) / kPageSize);
      const auto kept = tree.insert(tokens, pages, 0);
      for (size_t i = 0; i < pages.size(); ++i) {
        const Tokens path(tokens.begin(), tokens.begin() + (i + 1) * kPageSize);
        ASSERT_EQ(kept[i], paths.try_emplace(path, pages[i]).first->second);
        if (kept[i] != pages[i]) allocator.drop_ref(pages[i]);
      }
      held.push_back(kept);
    } else if (what == 1) {
      const auto match = tree.match(tokens).pages;
      tree.adopt(match);
      for (size_t i = 0; i <= match.size() && (i + 1) * kPageSize <= tokens.size(); ++i) {
        const auto path = paths.find(Tokens(tokens.begin(), tokens.begin() + (i + 1) * kPageSize));
        ASSERT_EQ(path != paths.end(), i < match.size());
        if (path == paths.end()) break;
        ASSERT_EQ(path->second, match[i]);
      }
      held.push_back(match);
    } else if (what == 2 && !held.empty()) {
      const size_t at = below(static_cast<int64_t>(held.size()));
      for (const int32_t page : held[at]) allocator.drop_ref(page);
      tree.on_release(held[at]);
      held.erase(held.begin() + at);
    } else if (what == 3 && allocator.free_pages() < 8) {
      const int64_t count = below(4), evictable = tree.evictable_pages();
      ASSERT_EQ(tree.evict(count), std::min(count, evictable));
      evictions += std::min(count, evictable);
      std::erase_if(paths, [&](const auto& path) { return !tree.contains(path.second); });
      ASSERT_EQ(static_cast<int64_t>(paths.size()), tree.pages());
    }
    allocator.check_integrity();
    tree.check_integrity();
  }
  EXPECT_GT(evictions, 100);
}

}  // namespace
}  // namespace longspan
