#include "model/transfer_probe.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "device/device.h"

namespace longspan {
namespace {

using namespace std::chrono_literals;

constexpr int32_t kHeadsQ = 2, kDim = 4, kPage = 8;

/// Every rank with a clock that goes on by `tick * (1 + rank)` seconds each time it is asked.
std::vector<TransferFigures> probe(int32_t ranks, double tick, int32_t pages) {
  const auto device = make_device({.backend = "reference", .compute = DType::kF32});
  auto group = make_threads_group(ranks, 60s);
  std::vector<TransferFigures> figures(ranks);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      Arena arena(device->memory());
      OpContext ctx{.arena = arena, .threads = 1};
      const auto scratch = device->ops().make_kv_pool({1, pages, kPage, 1, kDim, 1, kDim});
      double now = 0;
      figures[rank] = measure_transfer(ctx, device->ops(), *scratch, kHeadsQ, *group[rank],
                                       /*overlaps=*/false, [&] { return now += tick * (1 + rank); });
    });
  }
  for (std::thread& thread : threads) thread.join();
  return figures;
}

TEST(TransferProbe, TheFirstRanksFiguresHoldForAll) {
  for (const int32_t ranks : {1, 2, 3}) {
    const std::vector<TransferFigures> figures = probe(ranks, 0.0625, 9);
    for (const TransferFigures& mine : figures) {
      EXPECT_DOUBLE_EQ(mine.attention_flops, 2 * kHeadsQ * (kDim + kDim) * 64 * kPage / 0.0625);
      EXPECT_DOUBLE_EQ(mine.latency_s, 0.0625);
      EXPECT_DOUBLE_EQ(mine.bytes_per_second, 65536 / 0.03125) << "no more than half of it is latency";
    }
  }
}

TEST(TransferProbe, GoesOnUntilAMeasurementIsLongEnoughOrThePoolIsUsed) {
  const std::vector<TransferFigures> figures = probe(2, 0x1p-10, 9);
  EXPECT_DOUBLE_EQ(figures[1].attention_flops, 2 * kHeadsQ * (kDim + kDim) * 64 * kPage * 8 / 0x1p-10);
  EXPECT_DOUBLE_EQ(figures[1].bytes_per_second, (16 << 20) / 0x1p-11);
}

}  // namespace
}  // namespace longspan
