#include "kv/page_table.h"

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <limits>

namespace longspan {
namespace {

TEST(PageTable, PagesFor) {
  EXPECT_EQ(pages_for(0, 4), 0);
  EXPECT_EQ(pages_for(1, 4), 1);
  EXPECT_EQ(pages_for(4, 4), 1);
  EXPECT_EQ(pages_for(5, 4), 2);
  EXPECT_EQ(pages_for(std::numeric_limits<int64_t>::max(), 1), std::numeric_limits<int64_t>::max());
  EXPECT_GT(pages_for(std::numeric_limits<int64_t>::max(), 128), 0);
}

TEST(PageTable, GrowsAllOrNothing) {
  PageAllocator allocator(6);
  PageTable table;
  EXPECT_TRUE(table.grow(allocator, 5, 4));
  EXPECT_EQ(table.pages(), (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(table.grow(allocator, 8, 4));
  EXPECT_TRUE(table.grow(allocator, 1, 4)) << "never shrinks";
  EXPECT_EQ(table.pages().size(), 2u);
  EXPECT_FALSE(table.grow(allocator, 24, 4));
  EXPECT_EQ(table.pages().size(), 2u);
  EXPECT_TRUE(table.grow(allocator, 20, 4));
  EXPECT_EQ(table.pages(), (std::vector<int32_t>{1, 2, 3, 4, 5}));
  table.release(allocator);
  EXPECT_TRUE(table.pages().empty());
  EXPECT_EQ(allocator.free_pages(), 5);
  allocator.check_integrity();
  EXPECT_EQ(allocator.allocate(5)->front(), 1) << "pages come back in order";
}

TEST(PageTable, LengthStaysWithinThePages) {
  PageAllocator allocator(6);
  PageTable table;
  EXPECT_THROW(table.set_length(1, 4), Error);
  ASSERT_TRUE(table.grow(allocator, 8, 4));
  table.set_length(8, 4);
  EXPECT_EQ(table.length(), 8);
  EXPECT_THROW(table.set_length(9, 4), Error);
  EXPECT_THROW(table.set_length(-1, 4), Error);
  table.release(allocator);
  EXPECT_EQ(table.length(), 0);
}

TEST(PageTable, ReplacesAPageByASharedOne) {
  PageAllocator allocator(6);
  PageTable a, b;
  ASSERT_TRUE(a.grow(allocator, 8, 4));
  ASSERT_TRUE(b.grow(allocator, 8, 4));
  allocator.add_ref(1);
  b.replace(allocator, 0, 1);
  EXPECT_EQ(b.pages(), (std::vector<int32_t>{1, 4}));
  EXPECT_EQ(allocator.refs(1), 2);
  EXPECT_EQ(allocator.refs(3), 0) << "its own page is free again";
  a.release(allocator);
  EXPECT_EQ(allocator.refs(1), 1);
  b.release(allocator);
  EXPECT_EQ(allocator.free_pages(), 5);
}

TEST(PageTable, ExportsARowPaddedWithPageZero) {
  PageAllocator allocator(6);
  PageTable table;
  ASSERT_TRUE(table.grow(allocator, 8, 4));
  std::vector<int32_t> row(4, -1);
  table.export_row(allocator, row);
  EXPECT_EQ(row, (std::vector<int32_t>{1, 2, 0, 0}));
  std::vector<int32_t> short_row(1);
  EXPECT_THROW(table.export_row(allocator, short_row), Error);
  table.release(allocator);
}

TEST(PageTable, ExportsWhoHasEachPageAndWhere) {
  PageAllocator allocator(4, /*owners=*/3);
  PageTable table;
  ASSERT_TRUE(table.grow(allocator, 20, 4));
  std::vector<int32_t> row(6, -1), owners(6, -1);
  table.export_row(allocator, row, owners);
  EXPECT_EQ(owners, (std::vector<int32_t>{0, 1, 2, 0, 1, 0}));
  EXPECT_EQ(row, (std::vector<int32_t>{1, 1, 1, 2, 2, 0}));
  EXPECT_THROW(table.export_row(allocator, row, std::span(owners).first(5)), Error);
  table.release(allocator);
}

}  // namespace
}  // namespace longspan
