#pragma once

#include <longspan/engine.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace longspan::server {

/// An Engine whose tokens are bytes and whose answer to every prompt is "abcdefgh...": one byte a step while
/// `go` is set. Submit and cancel from any thread, as the real one.
class ScriptedEngine final : public Engine {
 public:
  std::atomic<bool> go{true};
  std::atomic<bool> die{false};  // the next step loses a rank
  std::atomic<bool> contradicts{false};
  std::atomic<int64_t> preemptions{0};
  EngineInfo described{.architecture = "Scripted",
                       .device = "none",
                       .ranks = 1,
                       .kv_tokens = 1000,
                       .context_length = 100,
                       .page_size = 16};
  std::vector<SamplingParams> samplings;  // of the requests so far; read it when nothing runs
  std::vector<std::string> tenants;       // likewise
  bool ends = true;                       // some token ends its answers

  RequestId submit(Request request) override;
  void prepare_schema(const std::string& schema) const override;
  void cancel(RequestId id) override;
  bool step() override;
  using Engine::tokenize;
  std::vector<int32_t> tokenize(const Prompt& prompt, const ChatOptions& chat) const override;
  std::string detokenize(const std::vector<int32_t>& token_ids) const override {
    return {token_ids.begin(), token_ids.end()};
  }
  std::string token_bytes(int32_t token_id) const override {
    return std::string(1, static_cast<char>(token_id));
  }
  EngineInfo info() const override { return described; }
  HardwareLimits measure_limits() const override { return {}; }
  EngineStats stats() const override;
  std::vector<RequestStatus> requests() const override { return {}; }
  void check_integrity() const override {
    if (contradicts) throw Error(ErrorCode::kInternal, "a page is nobody's");
  }

 private:
  struct Live {
    Request request;
    Result result;
  };
  void fail(Live& live, ErrorCode code, const std::string& message);

  std::map<RequestId, Live> live_;  // of the stepping thread
  bool dead_ = false;               // likewise
  std::mutex mutex_;                // guards what follows
  RequestId next_id_ = 1;
  std::map<RequestId, Request> arrivals_;
  std::vector<RequestId> cancellations_;
};

}  // namespace longspan::server
