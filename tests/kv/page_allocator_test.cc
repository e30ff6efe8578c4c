#include "kv/page_allocator.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>

namespace longspan {
namespace {

TEST(PageAllocator, NeverHandsOutPageZero) {
  PageAllocator allocator(6);
  EXPECT_EQ(allocator.total_pages(), 5);
  auto pages = allocator.allocate(5);
  ASSERT_TRUE(pages);
  std::ranges::sort(*pages);
  EXPECT_EQ(*pages, (std::vector<int32_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(allocator.free_pages(), 0);
  allocator.check_integrity();

  PageAllocator only_page_zero(1);
  EXPECT_FALSE(only_page_zero.allocate(1));
  EXPECT_TRUE(only_page_zero.allocate(0));
}

TEST(PageAllocator, AllOrNothing) {
  PageAllocator allocator(4);
  EXPECT_FALSE(allocator.allocate(4));
  EXPECT_EQ(allocator.free_pages(), 3);
  EXPECT_EQ(allocator.allocate(0)->size(), 0u);
  EXPECT_TRUE(allocator.allocate(3));
  EXPECT_FALSE(allocator.allocate(1));
}

TEST(PageAllocator, FreedLastComesFirst) {
  PageAllocator allocator(9);
  ASSERT_EQ(*allocator.allocate(4), (std::vector<int32_t>{1, 2, 3, 4}));
  allocator.drop_ref(2);
  allocator.drop_ref(4);
  EXPECT_EQ(*allocator.allocate(3), (std::vector<int32_t>{4, 2, 5}));
}

TEST(PageAllocator, APageIsFreeWhenItsLastOwnerLeaves) {
  PageAllocator allocator(2);
  const int32_t page = allocator.allocate(1)->front();
  allocator.add_ref(page);
  allocator.add_ref(page);
  EXPECT_EQ(allocator.refs(page), 3);
  EXPECT_FALSE(allocator.drop_ref(page));
  EXPECT_FALSE(allocator.drop_ref(page));
  EXPECT_EQ(allocator.free_pages(), 0);
  EXPECT_TRUE(allocator.drop_ref(page));
  EXPECT_EQ(allocator.free_pages(), 1);
}

TEST(PageAllocator, BrokenCallsAreFound) {
  EXPECT_THROW(PageAllocator(0), Error);
  EXPECT_THROW(PageAllocator(4, 0), Error);
  PageAllocator allocator(3);
  const int32_t page = allocator.allocate(1)->front();
  for (const int32_t wrong : {0, -1, 3, 2}) {  // page zero, out of the pool, free
    EXPECT_THROW(allocator.drop_ref(wrong), Error) << wrong;
    EXPECT_THROW(allocator.add_ref(wrong), Error) << wrong;
  }
  EXPECT_THROW(allocator.allocate(-1), Error);
  allocator.drop_ref(page);
  EXPECT_THROW(allocator.drop_ref(page), Error) << "twice";
  allocator.check_integrity();
}

TEST(PageAllocator, APageComesFromTheLeastFilledPool) {
  PageAllocator allocator(4, /*owners=*/3);
  EXPECT_EQ(allocator.total_pages(), 9);
  const auto owners_of = [&](const std::vector<int32_t>& pages) {
    std::vector<int32_t> owners;
    for (const int32_t page : pages) owners.push_back(allocator.place(page).owner);
    return owners;
  };
  const auto first = allocator.allocate(5);
  EXPECT_EQ(owners_of(*first), (std::vector<int32_t>{0, 1, 2, 0, 1})) << "ties go to the lowest";
  EXPECT_EQ(allocator.place((*first)[3]), (PagePlace{.owner = 0, .local = 2}));
  allocator.drop_ref((*first)[1]);
  allocator.drop_ref((*first)[4]);  // pool 1 is empty again
  EXPECT_EQ(owners_of(*allocator.allocate(3)), (std::vector<int32_t>{1, 1, 2}));
  EXPECT_FALSE(allocator.allocate(4));
  EXPECT_EQ(owners_of(*allocator.allocate(3)), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(allocator.free_pages(), 0);
  allocator.check_integrity();
}

// Pools never differ by more than one page while nothing is freed; whatever is freed, a page comes from the
// pool with the fewest in use, and no two pages have one place.
TEST(PageAllocator, RandomPoolsStayBalanced) {
  std::mt19937 random(11);
  for (int trial = 0; trial < 50; ++trial) {
    const auto owners = static_cast<int32_t>(1 + random() % 5);
    const auto pages = static_cast<int32_t>(1 + random() % 12);
    PageAllocator allocator(pages, owners);
    std::vector<int32_t> used(owners, 0), held;
    std::set<std::pair<int32_t, int32_t>> places;
    for (int i = 0; i < 300; ++i) {
      if (random() % 2 == 0) {
        const auto page = allocator.allocate(1);
        ASSERT_EQ(page.has_value(), std::ssize(held) < int64_t{owners} * (pages - 1));
        if (!page) continue;
        const PagePlace place = allocator.place(page->front());
        ASSERT_EQ(place.owner, std::ranges::min_element(used) - used.begin());
        ASSERT_TRUE(place.local >= 1 && place.local < pages);
        ASSERT_TRUE(places.emplace(place.owner, place.local).second) << "two pages in one place";
        ++used[place.owner];
        held.push_back(page->front());
      } else if (!held.empty()) {
        std::swap(held[random() % held.size()], held.back());
        const PagePlace place = allocator.place(held.back());
        allocator.drop_ref(held.back());
        held.pop_back();
        places.erase({place.owner, place.local});
        --used[place.owner];
      }
      allocator.check_integrity();
      for (int32_t owner = 0; owner < owners; ++owner)
        ASSERT_EQ(allocator.free_pages(owner), pages - 1 - used[owner]);
    }
  }
}

TEST(PageAllocator, RandomOwners) {
  std::mt19937 random(5);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  PageAllocator allocator(40);
  std::vector<int32_t> owners;  // one entry per reference
  for (int i = 0; i < 5000; ++i) {
    const size_t what = below(3);
    if (what == 0) {
      const int64_t count = static_cast<int64_t>(below(8));
      const int64_t free = allocator.free_pages();
      const auto pages = allocator.allocate(count);
      ASSERT_EQ(pages.has_value(), count <= free);
      if (pages) {
        for (const int32_t page : *pages) ASSERT_EQ(std::ranges::count(owners, page), 0) << "a page in use";
        owners.insert(owners.end(), pages->begin(), pages->end());
      }
    } else if (!owners.empty() && what == 1 && owners.size() < 100) {
      const int32_t page = owners[below(owners.size())];
      allocator.add_ref(page);
      owners.push_back(page);
    } else if (!owners.empty()) {
      const size_t at = below(owners.size());
      const int32_t page = owners[at];
      owners.erase(owners.begin() + at);
      ASSERT_EQ(allocator.drop_ref(page), std::ranges::count(owners, page) == 0);
    }
    allocator.check_integrity();
    const std::set<int32_t> used(owners.begin(), owners.end());
    ASSERT_EQ(allocator.free_pages(), allocator.total_pages() - static_cast<int64_t>(used.size()));
    for (const int32_t page : used) ASSERT_EQ(allocator.refs(page), std::ranges::count(owners, page));
  }
}

TEST(PageAllocator, APageOfACertainPool) {
  PageAllocator allocator(3, 2);  // two pages each
  const auto first = allocator.allocate_from(1), second = allocator.allocate_from(1);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(allocator.place(*first).owner, 1);
  EXPECT_NE(*first, *second);
  EXPECT_FALSE(allocator.allocate_from(1)) << "the other pool's pages are not asked for";
  EXPECT_EQ(allocator.free_pages(), 2);
  allocator.check_integrity();
  allocator.drop_ref(*second);
  EXPECT_EQ(allocator.allocate_from(1), second);
}

}  // namespace
}  // namespace longspan
