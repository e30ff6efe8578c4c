#include "device/cpu/kv_pages.h"

#include <gmock/gmock.h>
#include <longspan/error.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "device/cpu/cpu_features.h"
#include "device/host_memory.h"

namespace longspan {
namespace {

struct Rows {
  Rows(int64_t rows, int64_t cols) : values(static_cast<size_t>(rows * cols)), count(rows), width(cols) {}
  Matrix matrix() { return {values.data(), DType::kF32, count, width, width}; }
  std::vector<float> values;
  int64_t count, width;
};

Rows random_rows(int64_t rows, int64_t cols, uint32_t seed) {
  Rows result(rows, cols);
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  for (float& x : result.values) x = normal(rng);
  return result;
}

float stored(float x, DType dtype) {
  return dtype == DType::kBF16 ? bf16_to_f32(f32_to_bf16(x)) : x;
}

class KvPages : public testing::TestWithParam<std::tuple<DType, KvShape>> {
 protected:
  HostMemory memory_;
  Arena arena_{memory_};
  OpContext ctx_{arena_, 2};
};

TEST_P(KvPages, ReadGivesBackWhatWriteStored) {
  const auto [dtype, shape] = GetParam();
  auto pool = make_cpu_kv_pool(shape, dtype);
  const int32_t slot_count = shape.pages * shape.page_size;
  std::vector<int32_t> slots(static_cast<size_t>(slot_count));
  std::iota(slots.begin(), slots.end(), 0);
  std::shuffle(slots.begin(), slots.end(), std::mt19937(5));
  slots.resize(slots.size() * 2 / 3 + 1);
  const IndexArray index{slots.data(), slots.data(), static_cast<int64_t>(slots.size())};

  std::vector<Rows> k, v;
  for (int32_t layer = 0; layer < shape.layers; ++layer) {
    k.push_back(random_rows(index.size, shape.heads_k * shape.dim_k, 10 + static_cast<uint32_t>(layer)));
    v.push_back(random_rows(index.size, shape.heads_v * shape.dim_v, 20 + static_cast<uint32_t>(layer)));
    cpu_kv_write(ctx_, *pool, layer, k.back().matrix(), v.back().matrix(), index);
  }
  for (int32_t layer = 0; layer < shape.layers; ++layer) {
    Rows k_back(index.size, shape.heads_k * shape.dim_k), v_back(index.size, shape.heads_v * shape.dim_v);
    cpu_kv_read(ctx_, *pool, layer, index, k_back.matrix(), v_back.matrix());
    for (Rows* rows : {&k[static_cast<size_t>(layer)], &v[static_cast<size_t>(layer)]}) {
      for (float& x : rows->values) x = stored(x, dtype);
    }
    EXPECT_EQ(k_back.values, k[static_cast<size_t>(layer)].values);
    EXPECT_EQ(v_back.values, v[static_cast<size_t>(layer)].values);
  }

  std::vector<int32_t> untouched;
  std::vector<bool> used(static_cast<size_t>(slot_count));
  for (int32_t slot : slots) used[static_cast<size_t>(slot)] = true;
  for (int32_t slot = 0; slot < slot_count; ++slot) {
    if (!used[static_cast<size_t>(slot)]) untouched.push_back(slot);
  }
  const IndexArray rest{untouched.data(), untouched.data(), static_cast<int64_t>(untouched.size())};
  Rows k_rest(rest.size, shape.heads_k * shape.dim_k), v_rest(rest.size, shape.heads_v * shape.dim_v);
  cpu_kv_read(ctx_, *pool, 0, rest, k_rest.matrix(), v_rest.matrix());
  EXPECT_THAT(k_rest.values, testing::Each(0.0f)) << "a write spilled into another slot";
  EXPECT_THAT(v_rest.values, testing::Each(0.0f));
}

TEST_P(KvPages, NeighbouringSlotsAreWrittenByTwoThreadsAtOnce) {
  const auto [dtype, shape] = GetParam();
  auto pool = make_cpu_kv_pool(shape, dtype);
  const int64_t count = int64_t{shape.pages} * shape.page_size / 2;
  Rows k = random_rows(2 * count, shape.heads_k * shape.dim_k, 1);
  Rows v = random_rows(2 * count, shape.heads_v * shape.dim_v, 2);
  std::vector<int32_t> even_then_odd;
  for (int32_t i = 0; i < 2 * count; i += 2) even_then_odd.push_back(i);
  for (int32_t i = 1; i < 2 * count; i += 2) even_then_odd.push_back(i);
  const auto write_half = [&](int64_t begin) {
    HostMemory memory;
    Arena arena(memory);
    OpContext ctx{arena, 1};
    const int32_t* slots = even_then_odd.data() + begin;
    cpu_kv_write(ctx, *pool, 0, k.matrix().slice_rows(begin, count), v.matrix().slice_rows(begin, count),
                 {slots, slots, count});
  };
  std::thread other(write_half, 0);
  write_half(count);
  other.join();
  Rows k_back(2 * count, k.width), v_back(2 * count, v.width);
  cpu_kv_read(ctx_, *pool, 0, {even_then_odd.data(), even_then_odd.data(), 2 * count}, k_back.matrix(),
              v_back.matrix());
  for (Rows* rows : {&k, &v}) {
    for (float& x : rows->values) x = stored(x, dtype);
  }
  EXPECT_EQ(k_back.values, k.values);
  EXPECT_EQ(v_back.values, v.values);
}

TEST_P(KvPages, PoolTakesWhatItsPagesCost) {
  const auto [dtype, shape] = GetParam();
  EXPECT_EQ(make_cpu_kv_pool(shape, dtype)->bytes, cpu_kv_page_bytes(shape, dtype) * shape.pages);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, KvPages,
    testing::Combine(testing::Values(DType::kF32, DType::kBF16),
                     testing::Values(KvShape{2, 5, 16, 2, 64, 2, 64}, KvShape{1, 3, 128, 1, 128, 1, 128},
                                     KvShape{3, 9, 7, 3, 9, 2, 21}, KvShape{1, 40, 1, 2, 8, 1, 80})));

TEST(KvPagesCost, WholePanelsOfEvenDimsTakeNoPadding) {
  const KvShape shape{3, 0, 128, 4, 128, 4, 128};
  EXPECT_EQ(cpu_kv_page_bytes(shape, DType::kBF16), 3 * 128 * 4 * (128 + 128) * 2);
  EXPECT_EQ(cpu_kv_page_bytes(shape, DType::kF32), 3 * 128 * 4 * (128 + 128) * 4);
}

TEST(KvPagesCost, UnreservableMemoryIsRefusedWithItsBytes) {
  const KvShape shape{64, 2000000000, 128, 8, 128, 8, 128};
  try {
    make_cpu_kv_pool(shape, DType::kBF16);
    FAIL() << "reserved";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kCapacity);
    EXPECT_THAT(e.what(), testing::HasSubstr("67108864000000000 bytes"));
  }
}

TEST(KvPagesChecks, SlotsOutsideThePoolAreADefect) {
  HostMemory memory;
  Arena arena(memory);
  OpContext ctx{arena, 1};
  auto pool = make_cpu_kv_pool({1, 2, 4, 1, 8, 1, 8}, DType::kF32);
  Rows rows = random_rows(1, 8, 1);
  for (int32_t slot : {-2, 8})
    EXPECT_THROW(cpu_kv_write(ctx, *pool, 0, rows.matrix(), rows.matrix(), {&slot, &slot, 1}), Error);
  for (int32_t slot : {-1, 8})
    EXPECT_THROW(cpu_kv_read(ctx, *pool, 0, {&slot, &slot, 1}, rows.matrix(), rows.matrix()), Error);
}

TEST(CpuFeatures, NamesGoBothWaysAndAutoIsTheBest) {
  const std::vector<Isa> all = available_isas();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.front(), Isa::kPortable);
  for (Isa isa : all) EXPECT_EQ(parse_isa(to_string(isa)), isa);
  EXPECT_EQ(parse_isa("auto"), all.back());
}

TEST(CpuFeatures, UnknownNamesAreAUsageErrorThatNamesTheChoices) {
  try {
    parse_isa("avx1024");
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_THAT(e.what(),
                testing::AllOf(testing::HasSubstr("avx1024"), testing::HasSubstr("auto, portable")));
  }
}

}  // namespace
}  // namespace longspan
