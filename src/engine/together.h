#pragma once

#include <longspan/error.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/job.h"

namespace longspan {

/// Channels of a job's groups (Job::make_group).
enum JobChannel : int32_t { kOrders = 1, kResults, kKv, kAttnTp, kMoe };

/// All processes of the job, with the time limit on their aliveness only.
std::unique_ptr<Communicator> everyone(Job& job, JobChannel channel,
                                       std::optional<std::chrono::milliseconds> limit = {});

/// Every process' text, in rank order. Collective.
std::vector<std::string> exchange_texts(Job& job, std::string_view mine, std::string_view tag);

/// An error that every process of the job throws. Whatever else ends a process ends it alone, unless it says
/// so.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// Throws AgreedError, in every process, with the error of the lowest rank that has one. Collective.
void agree(Job& job, const std::optional<Error>& mine, std::string_view tag);

/// Runs `body` in every process of the job and waits for all: where it throws in one, its error is thrown in
/// all. Without a job, just runs it.
template <class Body>
auto together(Job* job, std::string_view tag, Body body) -> decltype(body()) {
  if (!job) return body();
  std::optional<Error> failure;
  std::optional<decltype(body())> result;
  try {
    result.emplace(body());
  } catch (const Error& error) {
    failure = error;
  } catch (const std::bad_alloc&) {
    failure = Error(ErrorCode::kCapacity, "out of memory");
  } catch (const std::exception& error) {
    failure = Error(ErrorCode::kInternal, error.what());
  }
  agree(*job, failure, tag);
  return std::move(*result);
}

}  // namespace longspan
