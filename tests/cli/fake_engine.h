#pragma once

#include <longspan/engine.h>

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace longspan::cli {

/// How a FakeEngine behaves.
struct FakeScript {
  std::function<std::string(const std::string& prompt)> reply = [](const std::string&) { return "ok"; };
  int32_t chunk = 1 << 30;                // prompt tokens per step
  int64_t context_length = 1 << 20;       // tokens
  int64_t pool_tokens = 1 << 20;          // a longer prompt is refused with kCapacity
  std::optional<int> die_at_step;         // this step loses a rank
  std::function<void(int step)> on_step;  // called first in each step, counted from 1
  double cp_error = 0;                    // added to log-probabilities by engines with cp > 1
  std::function<int(const std::string& prompt)> steps = [](const std::string&) {
    return 0;
  };  // idle steps first
  HardwareLimits limits;
  int32_t job_rank = 0;                   // of this process, with --comm mpi
  std::shared_ptr<Job> job;               // that was joined
  std::vector<EngineOptions> followed;    // options of every engine of rank 0 that was followed
  std::optional<Error> follow_error;      // what following ends with
  std::vector<EngineOptions> opened;      // options of every engine made, filled in by it
  std::vector<Prompt> prompts;            // submitted, in order
  std::vector<SamplingParams> samplings;  // likewise
  size_t most_running = 0;                // requests in flight at a time
};

/// An Engine whose tokens are bytes: one prefill chunk or one reply byte per request and step.
/// The log-probability of a token is -(id % 8) / 8.
class FakeEngine final : public Engine {
 public:
  FakeEngine(FakeScript& script, const EngineOptions& options);

  RequestId submit(Request request) override;
  void prepare_schema(const std::string&) const override {}
  void cancel(RequestId id) override;
  bool step() override;
  using Engine::tokenize;
  std::vector<int32_t> tokenize(const Prompt& prompt, const ChatOptions& chat) const override;
  std::string detokenize(const std::vector<int32_t>& token_ids) const override;
  std::string token_bytes(int32_t token_id) const override { return detokenize({token_id}); }
  EngineInfo info() const override;
  HardwareLimits measure_limits() const override { return script_.limits; }
  EngineStats stats() const override { return {}; }
  std::vector<RequestStatus> requests() const override { return {}; }
  void check_integrity() const override {}

 private:
  struct Live {
    RequestId id = 0;
    Request request;
    std::vector<int32_t> prompt;
    std::string reply;
    Result result;
    int idle = 0;
    int32_t computed = 0;
    bool cancelled = false;
  };

  float logprob(int32_t token) const;
  bool advance(Live& live);  // true: finished
  void finish(Live& live);
  void fail(Live& live, ErrorCode code, const std::string& message);

  FakeScript& script_;
  EngineOptions options_;
  std::deque<Live> live_;
  RequestId next_id_ = 1;
  int steps_ = 0;
};

/// The text of a prompt, whatever its form.
std::string prompt_text(const Prompt& prompt);

}  // namespace longspan::cli
