// HCCL of the simulator: ranks are threads, each with a device of its own.

#include <gmock/gmock.h>

#include <mutex>
#include <numeric>
#include <thread>

#include "sim/hccl_rounds.h"

namespace cann_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Runs body on `ranks` threads that share a communicator.
template <class Body>
void on_ranks(const char* release, uint32_t ranks, Body body) {
  Session root_session(release);
  Cann& cann = root_session.cann;
  HcclRootInfo root;
  ASSERT_EQ(CANN(HcclGetRootInfo)(&root), HCCL_SUCCESS);
  std::vector<std::thread> threads;
  for (uint32_t r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      RankSession session(release, ranks, root, r);
      body(session);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Hccl, CollectivesGiveWhatTheySay) {
  for (const char* release : {"8.1", "8.5", "9.0"}) {
    for (const uint32_t ranks : {1u, 2u, 3u, 5u}) {
      on_ranks(release, ranks, [&](RankSession& r) {
        Cann& cann = r.cann;
        Session& s = r.s;
        const float mine = static_cast<float>(r.rank + 1);
        void* send = s.upload<float>(std::vector<float>(ranks, mine));
        void* recv = s.allocate(ranks * 4);
        float sum = 0;
        std::vector<float> everyone;
        for (uint32_t i = 0; i < ranks; ++i) {
          sum += static_cast<float>(i + 1);
          everyone.push_back(static_cast<float>(i + 1));
        }
        ASSERT_EQ(CANN(HcclAllGather)(send, recv, 1, HCCL_DATA_TYPE_FP32, r.comm, s.stream), HCCL_SUCCESS)
            << s.error();
        ASSERT_EQ(s.sync(), 0) << s.error();
        EXPECT_EQ(s.download<float>(recv, ranks), everyone);
        ASSERT_EQ(
            CANN(HcclAllReduce)(send, recv, ranks, HCCL_DATA_TYPE_FP32, HCCL_REDUCE_SUM, r.comm, s.stream),
            HCCL_SUCCESS);
        ASSERT_EQ(s.sync(), 0) << s.error();
        EXPECT_EQ(s.download<float>(recv, ranks), std::vector<float>(ranks, sum));
        ASSERT_EQ(
            CANN(HcclReduceScatter)(send, recv, 1, HCCL_DATA_TYPE_FP32, HCCL_REDUCE_MAX, r.comm, s.stream),
            HCCL_SUCCESS);
        ASSERT_EQ(CANN(HcclBroadcast)(send, 1, HCCL_DATA_TYPE_FP32, ranks - 1, r.comm, s.stream),
                  HCCL_SUCCESS);
        ASSERT_EQ(CANN(HcclBarrier)(r.comm, s.stream), HCCL_SUCCESS);
        ASSERT_EQ(s.sync(), 0) << s.error();
        EXPECT_EQ(s.download<float>(recv, 1)[0], static_cast<float>(ranks));
        EXPECT_EQ(s.download<float>(send, 1)[0], static_cast<float>(ranks));
      });
    }
  }
}

TEST(Hccl, AllGatherVTakesExactCountsZeroToo) {
  on_ranks("8.5", 3, [](RankSession& r) {
    Cann& cann = r.cann;
    const uint64_t counts[] = {2, 0, 3}, displs[] = {0, 2, 2};
    void* send = r.s.upload_bf16(std::vector<float>(3, static_cast<float>(r.rank + 1)));
    void* recv = r.s.allocate(10);
    ASSERT_EQ(CANN(HcclAllGatherV)(send, counts[r.rank], recv, counts, displs, HCCL_DATA_TYPE_BFP16, r.comm,
                                   r.s.stream),
              HCCL_SUCCESS)
        << r.s.error();
    ASSERT_EQ(r.s.sync(), 0) << r.s.error();
    EXPECT_THAT(r.s.download_bf16(recv, 5), ElementsAre(1, 1, 3, 3, 3));
    EXPECT_EQ(CANN(HcclAllGatherV)(send, 1, recv, counts, displs, HCCL_DATA_TYPE_BFP16, r.comm, r.s.stream),
              HCCL_E_PARA);
    EXPECT_THAT(r.s.error(), HasSubstr("is not recvCounts"));
  });
}

TEST(Hccl, AlltoAllV) {
  on_ranks("9.0", 2, [](RankSession& r) {
    Cann& cann = r.cann;
    // Rank 0 keeps 1 and sends 2; rank 1 sends 1 and keeps 0.
    const uint64_t send_counts[2][2] = {{1, 2}, {1, 0}}, send_displs[2][2] = {{0, 1}, {0, 1}};
    const uint64_t recv_counts[2][2] = {{1, 1}, {2, 0}}, recv_displs[2][2] = {{0, 1}, {0, 2}};
    const float base = r.rank == 0 ? 0 : 10;
    void* send = r.s.upload<float>({base, base + 1, base + 2});
    void* recv = r.s.allocate(8);
    ASSERT_EQ(CANN(HcclAlltoAllV)(send, send_counts[r.rank], send_displs[r.rank], HCCL_DATA_TYPE_FP32, recv,
                                  recv_counts[r.rank], recv_displs[r.rank], HCCL_DATA_TYPE_FP32, r.comm,
                                  r.s.stream),
              HCCL_SUCCESS)
        << r.s.error();
    ASSERT_EQ(r.s.sync(), 0) << r.s.error();
    EXPECT_EQ(r.s.download<float>(recv, 2),
              r.rank == 0 ? (std::vector<float>{0, 10}) : (std::vector<float>{1, 2}));
  });
}

TEST(Hccl, ArgumentsAreChecked) {
  on_ranks("8.5", 2, [](RankSession& r) {
    Cann& cann = r.cann;
    void* data = r.s.allocate(16);
    const auto gather = [&](void* send, uint64_t count, int dtype) {
      return CANN(HcclAllGather)(send, data, count, static_cast<HcclDataType>(dtype), r.comm, r.s.stream);
    };
    EXPECT_EQ(gather(data, 1, 27), HCCL_E_NOT_SUPPORT);
    EXPECT_THAT(r.s.error(), HasSubstr("HCCL's is 11"));
    EXPECT_EQ(gather(nullptr, 1, 4), HCCL_E_PTR);
    EXPECT_EQ(gather(data, 100, 4), HCCL_E_PARA);
    EXPECT_EQ(gather(static_cast<char*>(data) + 1, 1, 4), HCCL_E_PARA);
    float host = 0;
    EXPECT_EQ(gather(&host, 1, 4), HCCL_E_PARA);
    EXPECT_THAT(r.s.error(), HasSubstr("not a device address"));
  });
}

TEST(Hccl, BuffersLieOnTheRanksDevice) {
  on_ranks("8.5", 2, [](RankSession& r) {
    Cann& cann = r.cann;
    void* mine = r.s.allocate(16);
    ASSERT_EQ(CANN(aclrtSetDevice)(static_cast<int>(r.rank) + 2), 0);
    void* foreign = r.s.allocate(16);
    ASSERT_EQ(CANN(aclrtSetDevice)(static_cast<int>(r.rank)), 0);
    EXPECT_EQ(CANN(HcclAllGather)(mine, foreign, 1, HCCL_DATA_TYPE_FP32, r.comm, r.s.stream), HCCL_E_PARA);
    EXPECT_THAT(r.s.error(), HasSubstr("recvBuf lies on device " + std::to_string(r.rank + 2)));
  });
}

TEST(Hccl, BuffersOverlapWhereTheyMay) {
  on_ranks("8.5", 2, [](RankSession& r) {
    Cann& cann = r.cann;
    auto* data = static_cast<char*>(r.s.upload<float>({1, 1, 1, 1}));
    EXPECT_EQ(CANN(HcclAllGather)(data + 4, data, 1, HCCL_DATA_TYPE_FP32, r.comm, r.s.stream), HCCL_E_PARA);
    EXPECT_THAT(r.s.error(), HasSubstr("sendBuf and recvBuf overlap"));
    const auto reduce = [&](void* from, void* to) {
      return CANN(HcclAllReduce)(from, to, 2, HCCL_DATA_TYPE_FP32, HCCL_REDUCE_SUM, r.comm, r.s.stream);
    };
    EXPECT_EQ(reduce(data, data + 4), HCCL_E_PARA);
    EXPECT_EQ(
        CANN(HcclReduceScatter)(data, data, 1, HCCL_DATA_TYPE_FP32, HCCL_REDUCE_SUM, r.comm, r.s.stream),
        HCCL_E_PARA);
    ASSERT_EQ(reduce(data, data), HCCL_SUCCESS) << r.s.error();
    ASSERT_EQ(r.s.sync(), 0) << r.s.error();
    EXPECT_EQ(r.s.download<float>(data, 4), (std::vector<float>{2, 2, 1, 1}));
  });
}

/// Every rank calls `call`, and every rank's next synchronisation must fail with a text that has `says`.
template <class Call>
void expect_disagreement(const char* says, Call call) {
  on_ranks("8.5", 2, [&](RankSession& r) {
    Cann& cann = r.cann;
    void* data = r.s.upload<float>({1, 2, 3, 4});
    void* to = r.s.allocate(64);
    call(cann, r, data, to);
    EXPECT_EQ(r.s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
    EXPECT_THAT(r.s.error(), HasSubstr(says));
    HcclResult result = HCCL_SUCCESS;
    EXPECT_EQ(CANN(HcclGetCommAsyncError)(r.comm, &result), HCCL_SUCCESS);
    EXPECT_NE(result, HCCL_SUCCESS);
  });
}

TEST(Hccl, CountsThatDifferAreTold) {
  expect_disagreement("FP32, count 1", [](Cann& cann, RankSession& r, void* from, void* to) {
    EXPECT_EQ(CANN(HcclAllGather)(from, to, r.rank + 1, HCCL_DATA_TYPE_FP32, r.comm, r.s.stream),
              HCCL_SUCCESS);
  });
}

TEST(Hccl, TypesThatDifferAreTold) {
  expect_disagreement("INT32, count 2", [](Cann& cann, RankSession& r, void* from, void* to) {
    const HcclDataType dtype = r.rank == 0 ? HCCL_DATA_TYPE_FP32 : HCCL_DATA_TYPE_INT32;
    EXPECT_EQ(CANN(HcclAllGather)(from, to, 2, dtype, r.comm, r.s.stream), HCCL_SUCCESS);
  });
}

TEST(Hccl, CallsInAnotherOrderAreTold) {
  expect_disagreement("collectives disagree", [](Cann& cann, RankSession& r, void* from, void* to) {
    if (r.rank == 1) CANN(HcclBarrier)(r.comm, r.s.stream);
    EXPECT_EQ(CANN(HcclAllGather)(from, to, 1, HCCL_DATA_TYPE_FP32, r.comm, r.s.stream), HCCL_SUCCESS);
    if (r.rank == 0) CANN(HcclBarrier)(r.comm, r.s.stream);
  });
}

TEST(Hccl, ARankThatNeverComesIsToldWithinTheLimit) {
  setenv("HCCL_EXEC_TIMEOUT", "1", 1);
  on_ranks("8.5", 3, [](RankSession& r) {
    Cann& cann = r.cann;
    if (r.rank == 1) return;
    EXPECT_EQ(CANN(HcclBarrier)(r.comm, r.s.stream), HCCL_SUCCESS);
    EXPECT_EQ(r.s.sync(), ACL_ERROR_RT_AICORE_EXCEPTION);
    EXPECT_THAT(r.s.error(), testing::AllOf(HasSubstr("EI0002"), HasSubstr("never came: 1 of 3")));
  });
  unsetenv("HCCL_EXEC_TIMEOUT");
}

TEST(Hccl, ARankThatNeverJoinsIsTold) {
  setenv("HCCL_CONNECT_TIMEOUT", "1", 1);
  Session s("8.5");
  Cann& cann = s.cann;
  HcclRootInfo root;
  ASSERT_EQ(CANN(HcclGetRootInfo)(&root), HCCL_SUCCESS);
  HcclComm comm = nullptr;
  EXPECT_EQ(CANN(HcclCommInitRootInfo)(2, &root, 0, &comm), HCCL_E_TIMEOUT);
  EXPECT_THAT(s.error(), HasSubstr("1 of 2 ranks"));
  // The rank that gave up does not count for those that come later.
  std::thread([&] {
    Session late("8.5", 1);
    HcclComm other = nullptr;
    EXPECT_EQ(CANN(HcclCommInitRootInfo)(2, &root, 1, &other), HCCL_E_TIMEOUT);
    EXPECT_THAT(late.error(), HasSubstr("1 of 2 ranks"));
  }).join();
  HcclRootInfo wrong = {};
  EXPECT_EQ(CANN(HcclCommInitRootInfo)(2, &wrong, 0, &comm), HCCL_E_PARA);
  unsetenv("HCCL_CONNECT_TIMEOUT");
}

}  // namespace
}  // namespace cann_test
