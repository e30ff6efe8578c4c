#include "cli/option_flags.h"

#include <fmt/format.h>

#include <limits>

namespace longspan::cli {
namespace {

constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMax64 = std::numeric_limits<int64_t>::max();

void add_layout_flags(FlagSet& flags, LayoutOptions& layout, std::vector<int64_t>* cp_list) {
  flags.value("--tp,--tp-size,--tensor-parallel-size", "as --cp", "RANKS", "ranks in all, cp x attn_tp",
              [&layout](const std::string& flag, const std::string& text) {
                layout.tp = static_cast<int32_t>(parse_integer(flag, text, 1, kMax32));
              });
  const std::string cp_help = "ranks that share one prompt (context parallelism), carved out of --tp";
  if (cp_list) {
    flags.integers("--cp,--attn-cp-size", *cp_list, 1, kMax32, "RANKS,...", cp_help);
  } else {
    flags.integer("--cp,--attn-cp-size", layout.cp, 1, kMax32, "RANKS", cp_help);
  }
  flags.integer("--moe-dp,--moe-dp-size,--moe-data-parallel-size", layout.moe_dp, 0, kMax32, "GROUPS",
                "groups that each hold all experts; 0: cp where cp x ep divides tp, else the largest fit");
  flags.integer("--ep,--ep-size,--expert-parallel-size", layout.ep, 1, kMax32, "RANKS",
                "ranks over which the experts of a group are spread");
  flags.value("--dp,--dp-size,--data-parallel-size", "1", "RANKS",
              "attention data parallelism; only 1 for now",
              [](const std::string& flag, const std::string& text) {
                if (parse_integer(flag, text, 1, kMax32) != 1) {
                  throw Error(ErrorCode::kNotSupported,
                              fmt::format("{} {}: attn_dp is 1 for now; leave it out", flag, text));
                }
              });
}

void add_memory_flags(FlagSet& flags, EngineOptions& engine) {
  flags.integer("--page-size", engine.page_size, 1, 65536, "TOKENS", "tokens per KV page");
  flags.number("--mem-fraction-static", engine.mem_fraction, 0, false, 1, "FRACTION",
               "share of the memory for weights and KV of all ranks on this machine");
  flags.integer("--max-total-tokens", engine.max_total_tokens, 0, kMax64, "TOKENS",
                "KV tokens in the pool; 0: what --mem-fraction-static leaves");
  flags.integer("--context-length", engine.context_length, 0, kMax32, "TOKENS",
                "longest prompt with its answer, at most the model's own; 0: the model's own");
}

void add_schedule_flags(FlagSet& flags, EngineOptions& engine) {
  flags.integer("--max-running-requests", engine.max_running_requests, 1, 65536, "ROWS", "rows in a batch");
  flags.value("--chunked-prefill-size", fmt::format("{}", engine.chunked_prefill_size), "TOKENS",
              "most new tokens per forward step; -1: no limit",
              [&engine](const std::string& flag, const std::string& text) {
                engine.chunked_prefill_size =
                    text == "-1" ? -1 : static_cast<int32_t>(parse_integer(flag, text, 1, kMax32));
              });
  flags.integer("--min-tokens-to-cut", engine.min_tokens_to_cut, 0, kMax32, "TOKENS",
                "prompts with fewer new tokens stay on one rank; 0: 2 x cp");
  flags.integer("--min-tokens-per-rank", engine.min_tokens_per_rank, 0, kMax32, "TOKENS",
                "steps with fewer new tokens for each cp rank run uncut, on all cores; 0: none do");
  flags.toggle("--disable-radix-cache", engine.prefix_cache, false,
               "keep no KV of finished prompts for later ones");
}

void add_compute_flags(FlagSet& flags, EngineOptions& engine) {
  flags.choice("--backend,--attention-backend,--device", engine.backend,
               {{"cpu", "cpu"}, {"ascend", "ascend"}, {"npu", "ascend"}, {"reference", "reference"}},
               {{"cuda", "not in this build; use cpu"}},
               "where it runs; ascend (npu): one NPU through CANN; reference: plain loops, for checking");
  flags.choice("--isa", engine.isa,
               {{"auto", "auto"},
                {"amx", "amx"},
                {"avx512_bf16", "avx512_bf16"},
                {"avx512_vnni", "avx512_vnni"},
                {"avx512", "avx512"},
                {"avx2", "avx2"},
                {"portable", "portable"}},
               {}, "instruction set of the cpu backend");
  flags.value(
      "--dtype", "auto", "auto|bf16|f32|int8",
      "arithmetic; auto: bf16 for a BF16 checkpoint, f32 for F32 and F16; int8: as auto with weights in int8",
      [&engine](const std::string& flag, const std::string& text) {
        if (text == "auto") {
          engine.dtype = ComputeType::kAuto;
        } else if (text == "bf16" || text == "bfloat16") {
          engine.dtype = ComputeType::kBF16;
        } else if (text == "f32" || text == "float32") {
          engine.dtype = ComputeType::kF32;
        } else if (text == "int8") {
          engine.dtype = ComputeType::kInt8;
        } else if (text == "f16" || text == "float16" || text == "half") {
          throw Error(ErrorCode::kNotSupported,
                      fmt::format("{} {}: not in this build; use auto, bf16, f32 or int8", flag, text));
        } else {
          throw Error(ErrorCode::kUsage,
                      fmt::format("{} {}: must be one of auto, bf16, f32, int8", flag, text));
        }
      });
  flags.integer("--threads", engine.threads, 0, 65536, "CORES",
                "cores for all ranks of this process; 0: those it may use");
  flags.text("--chat-template", engine.chat_template, "chatml|llama3",
             "how messages are rendered, instead of the folder's own template");
}

void add_exchange_flags(FlagSet& flags, CommonOptions& options) {
  EngineOptions& engine = options.engine;
  flags.value(
      "--comm", options.comm, "threads|mpi|hccl",
      "how ranks talk; threads: all in this process; mpi: one in each process that mpirun starts; hccl: "
      "ascend, a card for each rank, in one process or in those of mpirun, which --backend ascend takes by "
      "itself for layouts that need it, and for --kv shard",
      [&options](const std::string& flag, const std::string& text) {
        if (text == "nccl")
          throw Error(ErrorCode::kNotSupported,
                      fmt::format("{} {}: not in this build; use threads, mpi or hccl", flag, text));
        if (text != "threads" && text != "mpi" && text != "hccl")
          throw Error(ErrorCode::kUsage, fmt::format("{} {}: must be one of threads, mpi, hccl", flag, text));
        options.comm = text;
        options.comm_given = true;
      });
  flags.value(
      "--kv", "replicate", "replicate|shard",
      "replicate: every cp rank can read all KV; shard: a page is on one cp rank, cp times the tokens fit",
      [&engine](const std::string& flag, const std::string& text) {
        if (text != "replicate" && text != "shard")
          throw Error(ErrorCode::kUsage, fmt::format("{} {}: must be one of replicate, shard", flag, text));
        engine.shard_kv = text == "shard";
      });
  flags.value(
      "--kv-exchange", "auto", "auto|shared|gather|gather-kv|gather-q|ring",
      "with --kv replicate: shared: one pool for ranks in one process; gather: a pool each, merged "
      "all-gather; "
      "auto: shared with --comm threads, gather with mpi; with --kv shard: what travels for earlier tokens: "
      "gather-kv, ring: keys; gather-q: queries; auto: measured at start-up, chosen step by step",
      [&options, &engine](const std::string& flag, const std::string& text) {
        options.kv_exchange = text;
        engine.share_kv = text != "gather";
        for (const ShardExchange exchange :
             {ShardExchange::kGatherKv, ShardExchange::kGatherQ, ShardExchange::kRing}) {
          if (text != to_string(exchange)) continue;
          engine.shard_exchange = exchange;
          return;
        }
        if (text != "auto" && text != "shared" && text != "gather") {
          throw Error(ErrorCode::kUsage,
                      fmt::format("{} {}: must be one of auto, shared, gather, gather-kv, gather-q, ring",
                                  flag, text));
        }
      });
  flags.number("--comm-timeout", engine.comm_timeout_s, 0.001, true, 1e6, "SECONDS",
               "a collective that takes longer, or a silent process of a job, means a lost rank");
}

// Flags of other engines' command lines that must not stop ours.
void add_foreign_flags(FlagSet& flags) {
  flags.accepted("--enable-prefill-context-parallel,--enable-prefill-cp");  // --cp says it all
  for (const char* names : {"--trust-remote-code", "--disable-cuda-graph", "--disable-overlap-schedule",
                            "--skip-server-warmup"}) {
    flags.ignored(names, false);
  }
  for (const char* names : {"--cuda-graph-max-bs-decode", "--cuda-graph-max-bs", "--sampling-backend",
                            "--watchdog-timeout", "--dist-timeout"}) {
    flags.ignored(names, true);
  }
  flags.refused("--disaggregation-mode", true,
                "separate prefill and decode processes are not in this build; leave it out");
  flags.refused("--quantization", true, "quantised arithmetic is not in this build; leave it out");
}

void add_sampling_flags(FlagSet& flags, SamplingParams& sampling) {
  flags.integer("-n,--max-tokens", sampling.max_tokens, 0, kMax32, "TOKENS", "most new tokens");
  const auto number = [&flags](const std::string& names, float& target, double min, bool min_is_legal,
                               double max, const std::string& help) {
    flags.value(names, fmt::format("{}", target), "NUMBER", help,
                [=, &target](const std::string& flag, const std::string& text) {
                  target = static_cast<float>(parse_number(flag, text, min, min_is_legal, max));
                });
  };
  number("--temperature", sampling.temperature, 0, true, std::numeric_limits<float>::max(), "0: greedy");
  number("--top-p", sampling.top_p, 0, false, 1,
         "sample from the likeliest tokens of this total probability");
  flags.integer("--top-k", sampling.top_k, 0, kMax32, "TOKENS", "sample from the K likeliest tokens; 0: all");
  flags.unsigned_integer("--seed", sampling.seed, "NUMBER", "same seed, same tokens");
  flags.texts("--stop", sampling.stop, "TEXT", "end before this text; may be given several times");
  flags.toggle("--ignore-eos", sampling.ignore_eos, true, "go on past end-of-sequence tokens");
}

void add_self_check_flag(FlagSet& flags, int64_t& self_check) {
  flags.value(
      "--self-check", "off", "1/N|off", "replay one request in N at cp 1 and compare log-probabilities",
      [&self_check](const std::string& flag, const std::string& text) {
        if (text == "off") {
          self_check = 0;
        } else if (text.starts_with("1/")) {
          self_check = parse_integer(flag, text.substr(2), 1, kMax32);
        } else {
          throw Error(ErrorCode::kUsage, fmt::format("{} {}: must be 1/N or off, e.g. 1/10", flag, text));
        }
      });
}

}  // namespace

void add_common_flags(FlagSet& flags, CommonOptions& options, std::vector<int64_t>* cp_list) {
  flags.text("-m,--model,--model-path", options.engine.model, "FOLDER", "Hugging Face model folder");
  add_layout_flags(flags, options.engine.layout, cp_list);
  add_memory_flags(flags, options.engine);
  add_schedule_flags(flags, options.engine);
  add_compute_flags(flags, options.engine);
  add_exchange_flags(flags, options);
  add_foreign_flags(flags);
  flags.choice("--log-level", options.log_level,
               {{"debug", "debug"},
                {"info", "info"},
                {"warn", "warn"},
                {"warning", "warn"},
                {"error", "error"},
                {"off", "off"}},
               {}, "least severe message logged to stderr");
  flags.toggle("--json", options.json, true, "one machine-readable object on stdout");
  flags.toggle("-q,--quiet", options.quiet, true, "no progress and no closing lines on stderr");
}

void add_generate_flags(FlagSet& flags, GenerateOptions& options) {
  flags.value("-p,--prompt", "", "TEXT", "the prompt",
              [&options](const std::string&, const std::string& text) { options.prompt = text; });
  flags.text("-f,--file", options.file, "FILE", "the prompt is this file's text; -: standard input");
  flags.positional("input", options.stdin_mark, "-: the prompt is standard input");
  flags.toggle("--chat", options.chat, true, "the prompt is a user's message, rendered by the chat template");
  flags.text("--system", options.system, "TEXT", "system message before it, with --chat");
  add_sampling_flags(flags, options.sampling);
  add_self_check_flag(flags, options.self_check);
}

void add_batch_flags(FlagSet& flags, BatchOptions& options) {
  flags.text("-i,--input", options.input, "FILE", "requests, one JSON object a line; -: standard input");
  flags.text("-o,--output", options.output, "FILE", "results, one JSON object a line; -: standard output");
  add_self_check_flag(flags, options.self_check);
}

void add_plan_flags(FlagSet& flags, PlanOptions& options) {
  flags.integers("--lengths", options.lengths, 1, kMax32, "TOKENS,...", "prompt lengths to plan a step for");
}

void add_bench_flags(FlagSet& flags, BenchOptions& options) {
  flags.integers("-p,--prompt-tokens", options.prompt_tokens, 1, kMax32, "TOKENS,...", "prompt lengths");
  flags.integers("-b,--batch-sizes", options.batch, 1, 65536, "ROWS,...", "requests at a time");
  flags.integer("-n,--decode-steps", options.decode_steps, 0, kMax32, "STEPS",
                "decode steps timed; 0: prefill only");
  flags.integer("-r,--repeats", options.repeats, 1, 1000, "TIMES", "prefill repeats");
  flags.unsigned_integer("--seed", options.seed, "NUMBER", "of the random prompts");
}

void add_eval_flags(FlagSet& flags, EvalOptions& options) {
  flags.positional("task", options.task, "gsm8k, recall or ppl");
  flags.integer("--limit", options.limit, 0, kMax32, "COUNT",
                "questions (recall: per length; ppl: windows); 0: all, recall: 20");
  flags.integer("--parallel", options.parallel, 0, 65536, "COUNT",
                "requests in flight; 0: --max-running-requests");
  flags.text("--data", options.data, "PATH",
             "gsm8k, recall: folder, instead of the one that comes along; ppl: text file");
  flags.integers("--lengths", options.lengths, 1, kMax32, "TOKENS,...", "recall: prompt lengths");
  flags.integer("--shots", options.shots, 0, 1000, "COUNT", "gsm8k: worked examples before each question");
  flags.integer("-n,--max-tokens", options.max_tokens, 0, kMax32, "TOKENS",
                "most new tokens per answer; 0: gsm8k 512, recall 40");
  flags.text(
      "--url", options.url, "URL",
      "gsm8k, recall: ask this OpenAI-compatible server; recall needs -m all the same, to count tokens");
  flags.text("--served-model-name", options.served_model, "NAME",
             "what that server calls the model; the first that it lists where not given");
  flags.text("--api-key", options.api_key, "KEY", "that server's key (better: in LONGSPAN_API_KEY)");
  flags.integer("--context", options.context, 0, kMax32, "TOKENS", "ppl: window; 0: the model's, up to 4096");
  flags.integer("--stride", options.stride, 0, kMax32, "TOKENS",
                "ppl: from window to window; 0: half a window");
  flags.unsigned_integer("--seed", options.seed, "NUMBER", "recall: of the documents");
}

void add_serve_flags(FlagSet& flags, ServeOptions& options) {
  flags.text("--host", options.host, "ADDRESS", "where to listen; 0.0.0.0: everywhere");
  flags.integer("--port", options.port, 0, 65535, "NUMBER",
                "where to listen; 0: any free one, told on stderr");
  flags.text("--served-model-name", options.model_name, "NAME",
             "what clients call the model; the folder's name where not given");
  flags.texts(kApiKeyFlag, options.api_keys, "KEY",
              "clients must send it; may be given several times (better: in LONGSPAN_API_KEY, one a line)",
              kApiKeySeparator);
  flags.text("--tls-cert", options.tls_cert, "FILE",
             "answer over TLS: the certificate in PEM format, with those above it, if any, after it");
  flags.text("--tls-key", options.tls_key, "FILE", "its key in PEM format, without a passphrase");
  flags.integer("--max-queued-requests", options.max_queued, 0, kMax32, "REQUESTS",
                "how many may wait; more are refused with status 429");
  flags.number("--max-step-ms", options.max_step_ms, 0, true, 1e6, "MILLISECONDS",
               "prompts beside answers under way come in chunks that take no longer, or twice a step without "
               "prompts if that is more; 0: always --chunked-prefill-size");
  flags.number("--drain-timeout", options.drain_timeout_s, 0, true, 1e6, "SECONDS",
               "for answers under way after SIGTERM or SIGINT");
  flags.text("--mpirun", options.launcher, "COMMAND",
             "with --comm mpi or hccl: starts the ranks as processes (mpirun --bind-to none); -n RANKS and "
             "the program come after it");
  flags.integer(
      "--restart-on-failure", options.restarts, 0, kMax32, "TIMES",
      "with --comm mpi or hccl: start lost ranks again, so often in a row; 0: end with exit code 5");
  flags.toggle("--check-integrity", options.check_integrity, true,
               "check the page accounting after every step; a contradiction ends the server");
}

void add_bench_serve_flags(FlagSet& flags, BenchServeOptions& options) {
  flags.text("--url", options.url, "URL", "the server, at an http:// address");
  flags.text("--served-model-name", options.served_model, "NAME",
             "what the server calls the model; the first that it lists where not given");
  flags.text("--api-key", options.api_key, "KEY", "the server's key (better: in LONGSPAN_API_KEY)");
  flags.integer("--requests", options.requests, 1, 1'000'000, "COUNT", "requests in all");
  flags.number("--rate", options.rate, 0, true, 1e6, "PER-SECOND",
               "requests that arrive in a second (Poisson); 0: all at once");
  flags.value(
      "--mix", "gsm8k=1", "KIND=WEIGHT,...",
      "prompts: gsm8k, or a number of tokens for documents of that length (these need -m)",
      [&options](const std::string& flag, const std::string& text) { options.mix = parse_mix(flag, text); });
  flags.integer("--parallel", options.parallel, 1, 65536, "CONNECTIONS", "connections at most");
  flags.integer("-n,--max-tokens", options.max_tokens, 1, kMax32, "TOKENS", "most new tokens per answer");
  flags.toggle("--ignore-eos", options.ignore_eos, true,
               "ask for all of --max-tokens; not every server knows the field");
  flags.text("--data", options.data, "PATH", "gsm8k: folder, instead of the one that comes along");
  flags.integer("--shots", options.shots, 0, 1000, "COUNT", "gsm8k: worked examples before each question");
  flags.unsigned_integer("--seed", options.seed, "NUMBER", "of arrivals, kinds and documents");
  const auto limit = [&flags](const std::string& names, double& target, const std::string& help) {
    flags.number(names, target, 0, true, 1e9, "MILLISECONDS", "a good answer: " + help + "; 0: no limit");
  };
  limit("--slo-ttft", options.limits.ttft_ms, "most until the first text");
  limit("--slo-inter-token", options.limits.token_ms, "most between texts, in the mean");
  limit("--slo-e2e", options.limits.e2e_ms, "most until the end");
  flags.number("--timeout", options.timeout_s, 0.001, true, 1e6, "SECONDS", "for one answer");
}

}  // namespace longspan::cli
