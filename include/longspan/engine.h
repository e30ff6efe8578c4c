#pragma once

#include <longspan/ascend.h>
#include <longspan/hardware_limits.h>
#include <longspan/job.h>
#include <longspan/layout.h>
#include <longspan/request.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace longspan {

enum class ComputeType { kAuto, kBF16, kF32, kInt8 };

/// How queries meet the keys of earlier tokens where every KV page is on one cp rank only.
enum class ShardExchange {
  kAuto,      ///< by a probe at start-up and the cost formulas, step by step
  kGatherKv,  ///< every rank gets the keys of all
  kGatherQ,   ///< every rank gets all queries, and sends back what its own keys make of them
  kRing       ///< keys go round, one rank's at a time
};

/// "auto", "gather-kv", "gather-q", "ring".
inline const char* to_string(ShardExchange exchange) {
  constexpr const char* kNames[] = {"auto", "gather-kv", "gather-q", "ring"};
  return kNames[static_cast<int>(exchange)];
}

struct EngineOptions {
  std::string model;  ///< Hugging Face folder
  LayoutOptions layout;
  std::string backend = "cpu";  ///< "cpu", "ascend" (= "npu"), or "reference" (plain loops, for checking)
  std::string isa = "auto";     ///< cpu: auto, amx, avx512_bf16, avx512_vnni, avx512, avx2, portable
  ComputeType dtype =
      ComputeType::kAuto;   ///< auto: a BF16 checkpoint computes in bf16, F32 and F16 ones in f32; int8: as
                            ///< auto, but projections, MLPs and experts multiply in int8
  int32_t page_size = 128;  ///< tokens per KV page, >= 1
  int32_t max_running_requests = 32;    ///< rows in a batch, >= 1
  int32_t chunked_prefill_size = 8192;  ///< most new tokens per step, >= 1; -1: no limit
  /// While requests generate, prompts are computed in chunks that keep a step within this many milliseconds,
  /// or within twice a step without prompts where that is longer; 0: always chunked_prefill_size.
  double max_step_ms = 0;
  int64_t context_length = 0;    ///< tokens; 0: what the model's config says; may only lower it
  double mem_fraction = 0.7;     ///< of the device's memory, for weights and KV of all ranks on it
  int64_t max_total_tokens = 0;  ///< KV tokens in the pool; 0: what mem_fraction leaves
  bool prefix_cache = true;      ///< keep KV of finished prompts for later ones with the same start
  int32_t threads = 0;           ///< cores for all ranks of this process; 0: its affinity mask, which
                                 ///< processes of a job with the same one divide
  bool share_kv = true;          ///< ranks in one process use one pool; false: one each, merged gather
  bool shard_kv = false;         ///< every KV page on one cp rank only, a pool each: cp times the tokens
  ShardExchange shard_exchange = ShardExchange::kAuto;  ///< with shard_kv
  std::string cache_folder;  ///< keeps what that probe found for later starts; "": measured at every start
  int32_t min_tokens_to_cut = 0;  ///< prompts with fewer new tokens stay on one rank; 0: 2 * cp
  int32_t min_tokens_per_rank =
      512;                     ///< steps with fewer new tokens for each cp rank run uncut on all cores, where
                               ///< ranks share a KV pool and each has all heads and experts; 0: none
  double comm_timeout_s = 60;  ///< 0.001 .. 1e6; a collective that takes longer means a lost rank; with hccl
                               ///< HCCL's own limit holds ($HCCL_EXEC_TIMEOUT, seconds)
  AscendOptions ascend;        ///< of the ascend backend
  bool hccl = false;  ///< ascend: a card each for the ranks of a host, from ascend.device on, which meet over
                      ///< HCCL. false: ranks share one card
  std::string chat_template;  ///< "": the folder's; "chatml", "llama3"
  /// The layout's ranks are the processes of this job, one each; null: threads of this process.
  std::shared_ptr<Job> job = {};
};

/// What was built, for people and --json.
struct EngineInfo {
  std::string architecture;
  std::string device;  ///< device, instruction set and arithmetic
  int32_t ranks = 1;
  int32_t threads_per_rank = 1;
  int64_t weight_bytes = 0;   ///< resident, all ranks of this process together
  int64_t kv_bytes = 0;       ///< reserved in this process
  int64_t kv_tokens = 0;      ///< that fit
  int64_t message_bytes = 0;  ///< held in this process for messages to others of a job, so far
  int64_t context_length = 0;
  int32_t page_size = 0;
  bool thinks = false;          ///< answers to chats may begin with a <think> block
  bool opens_thinking = false;  ///< which the prompt of a chat has opened already
};

struct EngineStats {
  int64_t running = 0, waiting = 0;
  int64_t free_pages = 0, cached_pages = 0, total_pages = 0;
  int64_t steps = 0;
  int64_t prepared_steps = 0;                     ///< of these: made ready while a device had the one before
  int64_t prefill_tokens = 0, decode_tokens = 0;  ///< computed so far
  int64_t preemptions = 0;  ///< requests that gave their KV pages back to older ones and were computed again
};

/// A request that has not finished, as the last step left it.
struct RequestStatus {
  RequestId id = 0;
  bool running = false;  ///< else it waits for a place in the batch or for pages, again after a preemption
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;              ///< of the prompt, found in the prefix tree
  int32_t processed_tokens = 0;           ///< of the prompt, cached ones included
  int32_t new_tokens = 0;                 ///< generated so far
  int64_t pages = 0;                      ///< KV pages it holds, shared ones included
  std::vector<int32_t> rank_tokens = {};  ///< as in Progress
};

/// Runs requests on one model. submit, cancel, prepare_schema, tokenize, detokenize and token_bytes may be
/// called from any thread; step, run and the rest from one thread at a time. A request's failure is reported
/// in its Result; Error(kRankLost) from step means that the engine is dead: every request in flight has been
/// finished with that error.
class Engine {
 public:
  /// Loads the model. Throws Error: kUsage, kUnreadable, kNotSupported, kCapacity.
  /// In a job, rank 0 opens and the other processes follow() with the same options.
  static std::unique_ptr<Engine> open(const EngineOptions& options);
  /// Computes this process' part of what the engine that rank 0 of the job opens is asked for, until that is
  /// gone. Throws Error: what open() throws there, kRankLost, and kCancelled if rank 0 leaves the job without
  /// an engine.
  static void follow(const EngineOptions& options);
  virtual ~Engine() = default;

  /// Queues a request. A request that breaks a rule is accepted and finished with an error in the next step,
  /// so that every request gets exactly one on_finish.
  virtual RequestId submit(Request request) = 0;
  /// Checks a SamplingParams::json_schema, and keeps what it is made into for the requests that come with it
  /// soon: submit takes the time otherwise. Throws Error: kInvalidRequest, kNotSupported for a model that
  /// names no end-of-sequence token.
  virtual void prepare_schema(const std::string& json_schema) const = 0;
  /// Takes effect at the end of the step; an unknown or finished id does nothing.
  virtual void cancel(RequestId id) = 0;
  /// One forward step over everything that runs. False if there was nothing to do.
  virtual bool step() = 0;
  /// Steps until nothing is left to do.
  void run() {
    while (step()) {
    }
  }
  /// Submits a request and steps until it is finished. Throws Error if it fails.
  Result generate(Request request);

  virtual std::vector<int32_t> tokenize(const Prompt& prompt, const ChatOptions& chat) const = 0;
  std::vector<int32_t> tokenize(const Prompt& prompt) const { return tokenize(prompt, {}); }
  virtual std::string detokenize(const std::vector<int32_t>& token_ids) const = 0;
  /// The bytes of one token's text, which may be a part of a character; empty for an unknown id.
  virtual std::string token_bytes(int32_t token_id) const = 0;

  virtual EngineInfo info() const = 0;
  /// What the device reaches at its best on the cores of all local ranks; takes about a second of them.
  virtual HardwareLimits measure_limits() const = 0;
  virtual EngineStats stats() const = 0;
  /// In order of arrival, those that submit has queued since the last step left out.
  virtual std::vector<RequestStatus> requests() const = 0;
  /// Verifies page accounting; throws Error(kInternal) on the first contradiction.
  virtual void check_integrity() const = 0;
};

}  // namespace longspan
