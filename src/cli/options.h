#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cli/load_plan.h"
#include "cli/load_stats.h"

namespace longspan::cli {

/// Flags that every command takes.
struct CommonOptions {
  EngineOptions engine;
  std::string comm = "threads";  // "hccl": the ranks have a card each
  bool comm_given = false;
  bool in_job = false;  // the ranks are processes that a launcher has started
  std::string kv_exchange = "auto";
  std::string log_level = "warn";
  bool json = false;   // one object on stdout
  bool quiet = false;  // no progress and no closing lines on stderr
};

struct GenerateOptions {
  std::optional<std::string> prompt;  // -p
  std::string file;                   // -f; "-": standard input
  std::string stdin_mark;             // "-" given alone, else empty
  bool chat = false;                  // wrap the prompt as a user message
  std::string system;                 // system message, with chat
  SamplingParams sampling{.max_tokens = 256};
  int64_t self_check = 0;  // 1: replay at cp 1 and compare; 0: off
};

struct BatchOptions {
  std::string input;       // "-": standard input
  std::string output;      // "-": standard output
  int64_t self_check = 0;  // replay one request in N at cp 1; 0: off
};

struct PlanOptions {
  std::vector<int64_t>
      lengths;  // tokens, one row of the step each; empty: 4096 and 131072, within the context
};

struct BenchOptions {
  std::vector<int64_t> prompt_tokens{512, 4096};
  std::vector<int64_t> cp;  // layouts to compare; empty: the layout's own
  std::vector<int64_t> batch{1};
  int32_t repeats = 5;
  int32_t decode_steps = 32;
  uint64_t seed = 0;
};

struct EvalOptions {
  std::string task;      // gsm8k, recall, ppl
  int64_t limit = 0;     // questions (per length for recall), windows for ppl; 0: the task's own
  int64_t parallel = 0;  // requests in flight; 0: rows in a batch
  std::string data;      // folder or file; "": the one that comes with the program or the model
  uint64_t seed = 0;
  std::vector<int64_t> lengths{1024, 4096, 16384};  // recall: prompt tokens
  int64_t shots = 5;                                // gsm8k
  int64_t max_tokens = 0;                           // per answer; 0: the task's own
  std::string url;                                  // ask this server; "": an engine of this process
  std::string served_model;                         // what it calls the model; "": the first that it lists
  std::string api_key;                              // that it wants; "": none
  int64_t context = 0;                              // ppl: tokens a window; 0: up to 4096
  int64_t stride = 0;                               // ppl: tokens between windows; 0: half the context
};

struct ServeOptions {
  std::string host = "127.0.0.1";
  int32_t port = 8080;                // 0: any free one
  std::string model_name;             // "": the model folder's name
  std::vector<std::string> api_keys;  // none: everybody may ask
  std::string tls_cert, tls_key;      // PEM files; "": plain HTTP
  int32_t max_queued = 256;           // requests that wait for a place in the batch
  double max_step_ms = 200;           // EngineOptions::max_step_ms
  double drain_timeout_s = 30;        // for answers under way once told to stop
  std::string launcher;               // of the ranks of a front, with its flags; "": mpirun
  int64_t restarts = 0;               // how often in a row a front starts lost ranks again
  bool check_integrity = false;       // of the page accounting, after every step
};

struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8080";
  std::string served_model;  // what the server calls the model; "": the first that it lists
  std::string api_key;
  int64_t requests = 100;
  double rate = 1;  // that arrive in a second; 0: all at once
  std::vector<LoadKind> mix =
      std::vector<LoadKind>(1);  // documents need the folder of a model that has recall data
  int64_t parallel = 256;        // connections at most
  int32_t max_tokens = 64;       // per answer
  bool ignore_eos = false;       // answers of max_tokens, from servers that know the field
  std::string data;              // folder of gsm8k; "": the one that comes with the program
  int64_t shots = 5;             // gsm8k
  uint64_t seed = 0;             // of arrivals, kinds and documents
  double timeout_s = 600;        // for one answer
  LoadLimits limits;             // of the goodput
};

struct DoctorOptions {};

struct CommandLine {
  CommonOptions common;
  std::variant<std::monostate, GenerateOptions, BatchOptions, PlanOptions, BenchOptions, EvalOptions,
               ServeOptions, BenchServeOptions, DoctorOptions>
      command;
  std::string information;         // --help, --version: print this and stop
  std::vector<std::string> notes;  // one line each, for stderr
};

/// Reads arguments (without the program's name) and LONGSPAN_<FLAG> variables; an argument wins over its
/// variable. Throws Error(kUsage) for an unknown flag or a bad value, with the nearest legal choice, and
/// Error(kNotSupported) for what is known and not in this build.
CommandLine parse_command_line(const std::vector<std::string>& args);

}  // namespace longspan::cli
