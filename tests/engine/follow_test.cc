// Rank 0 of a job and the process that follows it, as two threads.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <longspan/engine.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "checkpoint/model_config.h"
#include "device/reference/reference_ops.h"
#include "engine/open.h"
#include "engine/thread_job.h"
#include "model/layout_model.h"
#include "model/message_memory.h"
#include "support/device_with_ops.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"

namespace longspan {
namespace {

using testing::HasSubstr;
using testing_support::DeviceWithOps;
using testing_support::ThreadJob;

class TestDevice : public Device {
 public:
  BlockSource& memory() override { return inner_.memory(); }
  Ops& ops() override { return inner_.ops(); }
  int64_t memory_bytes() const override { return inner_.memory_bytes(); }
  HardwareLimits measure_limits(int) const override { return {}; }

 private:
  DeviceWithOps inner_{std::make_unique<ReferenceOps>(DType::kF32)};
};

struct Ending {
  std::optional<ErrorCode> code;
  std::string message;
};

Ending ending_of(const std::function<void()>& body) {
  try {
    body();
    return {};
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
}

class Follow : public testing::Test {
 protected:
  Follow() {
    testing_support::write_golden_model("llama_llama3", folder_.path());
    const auto groups = std::make_shared<ThreadJob::Groups>();
    for (int32_t rank = 0; rank < 2; ++rank) {
      EngineOptions& options = options_[rank];
      options.model = folder_.path().string();
      options.dtype = ComputeType::kF32;
      options.backend = "reference";
      options.layout.cp = 2;
      options.page_size = 16;
      options.max_total_tokens = 256;
      options.threads = 1;
      options.job = std::make_shared<ThreadJob>(groups, rank, 2);
    }
  }

  // How it ends on ranks 0 and 1, which has this device.
  std::pair<Ending, Ending> run(std::unique_ptr<Device> device = std::make_unique<TestDevice>()) {
    std::pair<Ending, Ending> endings;
    std::thread follower(
        [&] { endings.second = ending_of([&] { follow_engine(options_[1], std::move(device)); }); });
    endings.first = ending_of([&] {
      const auto engine = open_engine(options_[0], std::make_unique<TestDevice>(), [] { return 0.0; });
      Request request;
      request.prompt = std::vector<int32_t>(40, 7);
      request.sampling.max_tokens = 2;
      request.sampling.ignore_eos = true;
      EXPECT_EQ(engine->generate(std::move(request)).token_ids.size(), 2u);
    });
    follower.join();
    return endings;
  }

  testing_support::TempDir folder_;
  EngineOptions options_[2];
};

TEST_F(Follow, ComputesUntilTheEngineIsGone) {
  const auto [leader, follower] = run();
  EXPECT_EQ(leader.message, "");
  EXPECT_EQ(follower.message, "");
}

// Rank 0 remembers the probe of an earlier start, the other process remembers nothing, or something else.
TEST_F(Follow, WhatRankZeroRemembersHoldsForAll) {
  const testing_support::TempDir caches[2];
  for (int rank = 0; rank < 2; ++rank) {
    options_[rank].shard_kv = true;
    options_[rank].cache_folder = caches[rank].path().string();
  }
  const auto start = [&] {
    const auto [leader, follower] = run();
    EXPECT_EQ(leader.message, "");
    EXPECT_EQ(follower.message, "");
  };
  const auto files = [](const testing_support::TempDir& cache) {
    std::map<std::string, std::string> texts;
    for (const auto& entry : std::filesystem::directory_iterator(cache.path()))
      texts[entry.path().filename().string()] = testing_support::read_file(entry.path());
    return texts;
  };
  start();
  const auto first = files(caches[0]);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_TRUE(files(caches[1]).empty());
  const auto& [name, text] = *first.begin();
  const std::string key = text.substr(0, text.find('\n') + 1);
  const std::string other = key + "attention_flops 1\nbytes_per_second 2\nlatency_s 3\n";
  caches[1].write(name, other);
  start();
  EXPECT_EQ(files(caches[0]), first) << "was not measured again";
  EXPECT_EQ(files(caches[1]).at(name), other) << "is not rank 0's";
}

// Of the memory for KV pages, what messages between processes take is left out.
TEST_F(Follow, ThePoolLeavesRoomForMessages) {
  for (EngineOptions& options : options_) options.max_total_tokens = int64_t{1} << 40;
  const auto [leader, follower] = run();
  EXPECT_EQ(leader.code, ErrorCode::kCapacity);
  EXPECT_EQ(follower.code, ErrorCode::kCapacity);
  const ModelConfig config = load_model_config(options_[0].model);
  const Layout layout = make_layout(options_[0].layout, layout_model(config));
  const int64_t bytes = message_bytes(options_[0], config, layout, TestDevice().ops());
  EXPECT_GT(bytes, 0);
  EXPECT_THAT(leader.message, HasSubstr(" and " + std::to_string(bytes) + " bytes for what travels"));
}

// What a process has not agreed on with the others it tells them.
TEST_F(Follow, AFailureOfItsOwnEndsTheJobByName) {
  class OutOfMemory final : public TestDevice {
    Ops& ops() override { throw std::bad_alloc(); }
  };
  const auto [leader, follower] = run(std::make_unique<OutOfMemory>());
  EXPECT_EQ(follower.code, ErrorCode::kRankLost);
  EXPECT_EQ(follower.message, "rank 1 failed: out of memory");
  EXPECT_EQ(leader.code, ErrorCode::kRankLost);
  EXPECT_THAT(leader.message, HasSubstr("rank 1 failed: out of memory"));
}

TEST_F(Follow, ADeviceThatCantExchangeIsRefusedByAll) {
  class Card final : public TestDevice {
    bool in_host_memory() const override { return false; }
  };
  const auto [leader, follower] = run(std::make_unique<Card>());
  EXPECT_EQ(leader.code, ErrorCode::kNotSupported);
  EXPECT_THAT(leader.message, testing::StartsWith("rank 1: backend reference: "));
  EXPECT_EQ(follower.code, leader.code);
  EXPECT_EQ(follower.message, leader.message);
}

class FollowAlike : public Follow {
 protected:
  void expect_refusal(const std::string& part, const std::string& rule) {
    const auto [leader, follower] = run();
    EXPECT_EQ(leader.code, ErrorCode::kUsage);
    EXPECT_THAT(leader.message, testing::AllOf(HasSubstr("the processes of the job disagree: rank 0 has"),
                                               HasSubstr(part), HasSubstr(rule)));
    EXPECT_EQ(follower.message, leader.message);
  }

  void give_rank_1_a_copy() {
    std::filesystem::copy(folder_.path(), copy_.path(), std::filesystem::copy_options::recursive);
    options_[1].model = copy_.path().string();
  }

  testing_support::TempDir copy_;
};

TEST_F(FollowAlike, ACopyOfTheModelWillDo) {
  give_rank_1_a_copy();
  EXPECT_EQ(run().first.message, "");
}
TEST_F(FollowAlike, OtherWeightsAreRefused) {
  give_rank_1_a_copy();
  std::string weights = testing_support::read_file(copy_.path() / "model.safetensors");
  weights[weights.size() - 3] ^= 1;
  copy_.write("model.safetensors", weights);
  expect_refusal("of weights", "give all the same model");
}
TEST_F(FollowAlike, AnotherConfigIsRefused) {
  give_rank_1_a_copy();
  std::ofstream(copy_.path() / "config.json", std::ios::app) << "\n";
  expect_refusal("hash of config.json", "give all the same model");
}
TEST_F(FollowAlike, AnotherBackendIsRefused) {
  options_[1].backend = "cpu";
  expect_refusal("--backend cpu", "give all the same flags and variables");
}
TEST_F(FollowAlike, AnotherTimeLimitIsRefused) {
  options_[1].comm_timeout_s = 61.5;
  expect_refusal("--comm-timeout 61.5", "give all the same flags and variables");
}

// With copies of rows on several ranks the bits must be the same.
TEST_F(FollowAlike, AnotherInstructionSetIsRefusedWhereRowsAreCopied) {
  class Portable final : public ReferenceOps {
   public:
    using ReferenceOps::ReferenceOps;
    std::string name() const override { return "portable f32"; }
  };
  const auto device = [] { return std::make_unique<DeviceWithOps>(std::make_unique<Portable>(DType::kF32)); };
  EXPECT_EQ(run(device()).first.message, "");
  for (EngineOptions& options : options_) {
    options.layout.tp = 2;
    options.layout.cp = 1;
  }
  EXPECT_THAT(run(device()).first.message, HasSubstr("portable f32"));
}

}  // namespace
}  // namespace longspan
