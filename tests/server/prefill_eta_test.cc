#include "server/prefill_eta.h"

#include <gtest/gtest.h>

#include <random>

namespace longspan::server {
namespace {

constexpr double kToken = 0.05, kPair = 2e-5;  // ms

double time_of(double from, double to) {
  return kToken * (to - from) + kPair * (to * (to + 1) - from * (from + 1)) / 2;
}

TEST(PrefillEta, IsRightAfterTheFirstChunkIfTheCostIsKnown) {
  const PrefillEta eta(kPair / kToken);
  EXPECT_NEAR(eta.remaining_ms(0, 8192, 100000, time_of(0, 8192)), time_of(8192, 100000),
              1e-6 * time_of(0, 100000));
  EXPECT_NEAR(eta.remaining_ms(4096, 8192, 20000, time_of(4096, 8192)), time_of(8192, 20000),
              1e-6 * time_of(0, 20000));
}

TEST(PrefillEta, LearnsTheCostFromChunks) {
  PrefillEta eta(0);
  std::mt19937 random(1);
  std::uniform_real_distribution<double> noise(0.99, 1.01);
  for (int prompt = 0; prompt < 3; ++prompt) {
    for (int32_t from = 0; from < 65536; from += 8192)
      eta.observe(from, from + 8192, time_of(from, from + 8192) * noise(random));
  }
  EXPECT_NEAR(eta.pair_work(), kPair / kToken, 0.1 * kPair / kToken);
  EXPECT_NEAR(eta.remaining_ms(0, 8192, 100000, time_of(0, 8192)), time_of(8192, 100000),
              0.1 * time_of(8192, 100000));
}

TEST(PrefillEta, KeepsWhatItWasToldWhileChunksAreAllAlike) {
  PrefillEta eta(0.5);
  for (int i = 0; i < 50; ++i) eta.observe(0, 100, 7);
  EXPECT_EQ(eta.pair_work(), 0.5);
  eta.observe(100, 100, 5);
  eta.observe(100, 200, 0);
  EXPECT_EQ(eta.pair_work(), 0.5);
}

TEST(PrefillEta, NothingIsLeftAtTheEnd) {
  const PrefillEta eta(0.5);
  EXPECT_EQ(eta.remaining_ms(0, 100, 100, 5), 0);
  EXPECT_EQ(eta.remaining_ms(100, 100, 200, 5), 0);
}

}  // namespace
}  // namespace longspan::server
