#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "cli/flags.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

CommandLine parse(const std::vector<std::string>& args) {
  return parse_command_line(args);
}

const EngineOptions& engine(const CommandLine& line) {
  return line.common.engine;
}

// The error of a command line that must be refused, as "code: message".
std::string options_refusal(const std::vector<std::string>& args) {
  try {
    parse(args);
  } catch (const Error& e) {
    return std::string(to_string(e.code())) + ": " + e.what();
  }
  return "accepted";
}

std::string refusal_of_flag(std::vector<std::string> flags) {
  flags.insert(flags.begin(), {"plan", "-m", "M"});
  return options_refusal(flags);
}

class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }

 private:
  const char* name_;
};

TEST(Options, Defaults) {
  const CommandLine line = parse({"generate", "-m", "M", "-p", "x"});
  const EngineOptions& e = engine(line);
  EXPECT_EQ(e.model, "M");
  EXPECT_EQ(e.layout.tp, 0);
  EXPECT_EQ(e.layout.cp, 1);
  EXPECT_EQ(e.layout.moe_dp, 0);
  EXPECT_EQ(e.layout.ep, 1);
  EXPECT_EQ(e.backend, "cpu");
  EXPECT_EQ(e.page_size, 128);
  EXPECT_EQ(e.max_running_requests, 32);
  EXPECT_EQ(e.chunked_prefill_size, 8192);
  EXPECT_DOUBLE_EQ(e.mem_fraction, 0.7);
  EXPECT_DOUBLE_EQ(e.comm_timeout_s, 60);
  EXPECT_EQ(e.dtype, ComputeType::kAuto);
  EXPECT_EQ(e.threads, 0);
  EXPECT_TRUE(e.prefix_cache);
  EXPECT_TRUE(e.share_kv);
  EXPECT_FALSE(e.shard_kv);
  EXPECT_FALSE(line.common.json);
  EXPECT_EQ(std::get<GenerateOptions>(line.command).self_check, 0);
  EXPECT_TRUE(line.notes.empty());
}

TEST(Options, EveryAliasMeansTheSame) {
  const auto tp = [](const char* flag) { return engine(parse({"plan", "-m", "M", flag, "4"})).layout.tp; };
  for (const char* flag : {"--tp", "--tp-size", "--tensor-parallel-size"}) EXPECT_EQ(tp(flag), 4) << flag;
  const auto cp = [](const char* flag) { return engine(parse({"plan", "-m", "M", flag, "4"})).layout.cp; };
  for (const char* flag : {"--cp", "--attn-cp-size"}) EXPECT_EQ(cp(flag), 4) << flag;
  const auto moe = [](const char* flag) {
    return engine(parse({"plan", "-m", "M", flag, "4"})).layout.moe_dp;
  };
  for (const char* flag : {"--moe-dp", "--moe-dp-size", "--moe-data-parallel-size"})
    EXPECT_EQ(moe(flag), 4) << flag;
  const auto ep = [](const char* flag) { return engine(parse({"plan", "-m", "M", flag, "4"})).layout.ep; };
  for (const char* flag : {"--ep", "--ep-size", "--expert-parallel-size"}) EXPECT_EQ(ep(flag), 4) << flag;
  const auto backend = [](const char* flag) {
    return engine(parse({"plan", "-m", "M", flag, "reference"})).backend;
  };
  for (const char* flag : {"--backend", "--attention-backend", "--device"})
    EXPECT_EQ(backend(flag), "reference");
  for (const char* name : {"ascend", "npu"})
    EXPECT_EQ(engine(parse({"plan", "-m", "M", "--backend", name})).backend, "ascend");
  for (const char* flag : {"-m", "--model", "--model-path"})
    EXPECT_EQ(engine(parse({"plan", flag, "N"})).model, "N");
  EXPECT_EQ(engine(parse({"plan", "--model-path=N"})).model, "N");
}

TEST(Options, ReadsTheOthers) {
  const EngineOptions e = engine(parse({"batch",
                                        "-m",
                                        "M",
                                        "-i",
                                        "a",
                                        "-o",
                                        "b",
                                        "--page-size",
                                        "64",
                                        "--max-running-requests",
                                        "7",
                                        "--chunked-prefill-size",
                                        "-1",
                                        "--mem-fraction-static",
                                        "0.25",
                                        "--disable-radix-cache",
                                        "--kv-exchange",
                                        "gather",
                                        "--comm-timeout",
                                        "1.5",
                                        "--threads",
                                        "3",
                                        "--context-length",
                                        "99",
                                        "--dtype",
                                        "f32",
                                        "--isa",
                                        "avx2",
                                        "--min-tokens-to-cut",
                                        "5",
                                        "--min-tokens-per-rank",
                                        "6",
                                        "--max-total-tokens",
                                        "4096",
                                        "--chat-template",
                                        "llama3"}));
  EXPECT_EQ(e.page_size, 64);
  EXPECT_EQ(e.max_running_requests, 7);
  EXPECT_EQ(e.chunked_prefill_size, -1);
  EXPECT_DOUBLE_EQ(e.mem_fraction, 0.25);
  EXPECT_FALSE(e.prefix_cache);
  EXPECT_FALSE(e.share_kv);
  EXPECT_DOUBLE_EQ(e.comm_timeout_s, 1.5);
  EXPECT_EQ(e.threads, 3);
  EXPECT_EQ(e.context_length, 99);
  EXPECT_EQ(e.dtype, ComputeType::kF32);
  EXPECT_EQ(e.isa, "avx2");
  EXPECT_EQ(e.min_tokens_to_cut, 5);
  EXPECT_EQ(e.min_tokens_per_rank, 6);
  EXPECT_EQ(e.max_total_tokens, 4096);
  EXPECT_EQ(e.chat_template, "llama3");
}

TEST(Options, ReadsSampling) {
  const CommandLine line = parse({"generate",
                                  "-m",
                                  "M",
                                  "-p",
                                  "[a, b]",
                                  "--max-tokens",
                                  "0",
                                  "--temperature",
                                  "0.5",
                                  "--top-p",
                                  "0.9",
                                  "--top-k",
                                  "40",
                                  "--seed",
                                  "18446744073709551615",
                                  "--stop",
                                  "X",
                                  "--stop",
                                  "-Y",
                                  "--ignore-eos",
                                  "--chat",
                                  "--system",
                                  "be brief",
                                  "--self-check",
                                  "1/3"});
  const auto& options = std::get<GenerateOptions>(line.command);
  EXPECT_EQ(options.prompt, "[a, b]");
  EXPECT_EQ(options.sampling.max_tokens, 0);
  EXPECT_FLOAT_EQ(options.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(options.sampling.top_p, 0.9f);
  EXPECT_EQ(options.sampling.top_k, 40);
  EXPECT_EQ(options.sampling.seed, 18446744073709551615u);
  EXPECT_THAT(options.sampling.stop, ElementsAre("X", "-Y"));
  EXPECT_TRUE(options.sampling.ignore_eos);
  EXPECT_TRUE(options.chat);
  EXPECT_EQ(options.system, "be brief");
  EXPECT_EQ(options.self_check, 3);
}

TEST(Options, ReadsLists) {
  const CommandLine line =
      parse({"bench", "-m", "M", "-p", "512,4096", "--cp", "1,2", "-b", "1,4", "-r", "3"});
  const auto& options = std::get<BenchOptions>(line.command);
  EXPECT_THAT(options.prompt_tokens, ElementsAre(512, 4096));
  EXPECT_THAT(options.cp, ElementsAre(1, 2));
  EXPECT_THAT(options.batch, ElementsAre(1, 4));
  EXPECT_EQ(options.repeats, 3);
  EXPECT_THAT(options_refusal({"bench", "-m", "M", "-p", "512,"}), HasSubstr("--prompt-tokens"));
  EXPECT_THAT(options_refusal({"bench", "-m", "M", "-p", "512,x"}), HasSubstr("must be a whole number >= 1"));
}

TEST(Options, TheReferenceCommandLineIsUnderstood) {
  const CommandLine line = parse({"generate",
                                  "--model-path",
                                  "M",
                                  "--trust-remote-code",
                                  "--mem-fraction-static",
                                  "0.7",
                                  "--max-running-requests",
                                  "32",
                                  "--attention-backend",
                                  "cpu",
                                  "--tp-size",
                                  "4",
                                  "--moe-dp-size",
                                  "2",
                                  "--attn-cp-size",
                                  "2",
                                  "--cuda-graph-max-bs-decode",
                                  "32",
                                  "--enable-prefill-context-parallel",
                                  "-p",
                                  "x"});
  EXPECT_EQ(engine(line).layout.tp, 4);
  EXPECT_EQ(engine(line).layout.moe_dp, 2);
  EXPECT_EQ(engine(line).layout.cp, 2);
  ASSERT_EQ(line.notes.size(), 1u);
  EXPECT_THAT(line.notes[0], HasSubstr("--trust-remote-code"));
  EXPECT_THAT(line.notes[0], HasSubstr("--cuda-graph-max-bs-decode"));
  EXPECT_THAT(line.notes[0], HasSubstr("have no effect here"));
}

TEST(Options, RefusedByName) {
  EXPECT_THAT(refusal_of_flag({"--disaggregation-mode", "prefill"}),
              HasSubstr("not_supported: --disaggregation-mode"));
  EXPECT_THAT(refusal_of_flag({"--backend", "cuda"}),
              HasSubstr("not_supported: --backend cuda: not in this build; use cpu"));
  EXPECT_THAT(refusal_of_flag({"--comm", "nccl"}), HasSubstr("not in this build; use threads, mpi or hccl"));
  EXPECT_THAT(refusal_of_flag({"--comm", "hccl"}), HasSubstr("is for --backend ascend, not cpu"));
  EXPECT_THAT(
      refusal_of_flag({"--backend", "ascend", "--comm", "hccl", "--cp", "2", "--kv-exchange", "shared"}),
      HasSubstr("cards share no memory; use auto or gather, or --comm threads"));
  EXPECT_EQ(refusal_of_flag({"--comm", "mpi", "--kv-exchange", "gather"}), "accepted");
  EXPECT_THAT(refusal_of_flag({"--comm", "mpi", "--kv-exchange", "shared"}), HasSubstr("use auto or gather"));
  for (const char* exchange : {"auto", "gather-kv", "gather-q", "ring"}) {
    EXPECT_EQ(refusal_of_flag({"--kv", "shard", "--kv-exchange", exchange}), "accepted");
    EXPECT_EQ(refusal_of_flag({"--kv", "shard", "--comm", "mpi", "--kv-exchange", exchange}), "accepted");
  }
  EXPECT_THAT(refusal_of_flag({"--kv", "shard", "--kv-exchange", "shared"}),
              HasSubstr("use auto, gather-kv"));
  EXPECT_THAT(refusal_of_flag({"--kv-exchange", "ring"}), HasSubstr("with --kv replicate use auto, shared"));
  EXPECT_THAT(refusal_of_flag({"--kv", "both"}), HasSubstr("must be one of replicate, shard"));
  EXPECT_THAT(refusal_of_flag({"--kv", "shard", "--kv-exchange", "pigeon"}),
              HasSubstr("must be one of auto"));
  EXPECT_THAT(refusal_of_flag({"--dtype", "f16"}), HasSubstr("not in this build"));
  EXPECT_THAT(refusal_of_flag({"--dp-size", "2"}), HasSubstr("attn_dp is 1 for now"));
  EXPECT_EQ(refusal_of_flag({"--dp-size", "1"}), "accepted");
}

TEST(Options, AServerBoundsItsSteps) {
  const auto max_step_ms = [](const std::vector<std::string>& args) {
    return std::get<ServeOptions>(parse(args).command).max_step_ms;
  };
  EXPECT_EQ(max_step_ms({"serve"}), 200);
  EXPECT_EQ(max_step_ms({"serve", "--max-step-ms", "50.5"}), 50.5);
  EXPECT_EQ(max_step_ms({"serve", "--max-step-ms", "0"}), 0);
  EXPECT_THAT(options_refusal({"serve", "--max-step-ms", "-1"}), HasSubstr("--max-step-ms"));
  EXPECT_EQ(engine(parse({"batch", "-m", "M", "-i", "I", "-o", "O"})).max_step_ms, 0) << "nobody waits";
}

// Ranks on ascend have a card each where they exchange more than KV, or where it is said.
TEST(Options, RanksGetCards) {
  const auto comm = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"plan", "-m", "M"});
    const CommandLine line = parse(flags);
    EXPECT_EQ(engine(line).hccl, line.common.comm == "hccl");
    return line.common.comm;
  };
  EXPECT_EQ(comm({"--cp", "2"}), "threads");
  EXPECT_EQ(comm({"--backend", "npu"}), "threads");
  EXPECT_EQ(comm({"--backend", "npu", "--cp", "2"}), "threads");
  EXPECT_EQ(comm({"--backend", "npu", "--cp", "2", "--comm", "hccl"}), "hccl");
  EXPECT_EQ(comm({"--backend", "npu", "--tp", "2"}), "hccl");
  EXPECT_EQ(comm({"--backend", "npu", "--cp", "2", "--kv", "shard"}), "hccl");
  EXPECT_EQ(comm({"--backend", "npu", "--cp", "2", "--kv", "shard", "--comm", "threads"}), "threads");
  EXPECT_EQ(comm({"--backend", "npu", "--kv", "shard"}), "threads") << "one rank has all pages anyway";
  EXPECT_EQ(comm({"--backend", "npu", "--cp", "2", "--moe-dp", "1"}), "hccl");
  EXPECT_EQ(comm({"--tp", "2"}), "threads");
  EXPECT_EQ(
      comm({"--attention-backend", "ascend", "--tp-size", "4", "--moe-dp-size", "2", "--attn-cp-size", "2"}),
      "hccl");
  EXPECT_EQ(comm({"--backend", "ascend", "--tp", "2", "--comm", "threads"}), "threads");
}

// Ranks with cards are processes where a launcher has started several; others only where that is said.
TEST(Options, RanksWithCardsMayBeProcesses) {
  const auto in_job = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"batch", "-m", "M", "-i", "I", "-o", "O"});
    return parse(flags).common.in_job;
  };
  const std::vector<std::string> serving = {"--attention-backend", "ascend", "--tp-size",      "4",
                                            "--moe-dp-size",       "2",      "--attn-cp-size", "2"};
  EXPECT_FALSE(in_job(serving));
  EXPECT_TRUE(in_job({"--comm", "mpi"}));
  setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  EXPECT_FALSE(in_job(serving));
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  EXPECT_TRUE(in_job(serving));
  EXPECT_TRUE(in_job({"--backend", "ascend", "--cp", "2", "--comm", "hccl"}));
  EXPECT_FALSE(in_job({"--backend", "ascend", "--cp", "2"})) << "each by itself";
  EXPECT_TRUE(parse({"serve", "--backend", "ascend", "--tp", "2"}).common.in_job);
  setenv("PMIX_RANK", "0", 1);
  EXPECT_TRUE(in_job(serving)) << "Open MPI sets both";
  unsetenv("OMPI_COMM_WORLD_SIZE");
  EXPECT_THAT(options_refusal({"serve", "--backend", "ascend", "--tp", "2"}),
              HasSubstr("not_supported: --comm hccl: PMIX_RANK is set"));
  EXPECT_FALSE(in_job({"--cp", "2"}));
  unsetenv("PMIX_RANK");
}

TEST(Options, ReadsTheVariablesOfCann) {
  setenv("ASCEND_HOME_PATH", "/opt/cann", 1);
  setenv("ASCEND_USE_FIA", "0", 1);
  setenv("ASCEND_CP_LAUNCHES", "2", 1);
  const AscendOptions set = engine(parse({"plan", "-m", "M"})).ascend;
  EXPECT_EQ(set.home, "/opt/cann");
  EXPECT_FALSE(set.use_fia);
  unsetenv("ASCEND_HOME_PATH");
  unsetenv("ASCEND_USE_FIA");
  EXPECT_EQ(set.cp_launches, 2);
  setenv("ASCEND_CP_LAUNCHES", "3", 1);
  EXPECT_THAT(options_refusal({"plan", "-m", "M"}), HasSubstr("ASCEND_CP_LAUNCHES"));
  unsetenv("ASCEND_CP_LAUNCHES");
  const AscendOptions unset = engine(parse({"plan", "-m", "M"})).ascend;
  EXPECT_EQ(unset.home, "");
  EXPECT_TRUE(unset.use_fia);
}

TEST(Options, CachesWhereOtherProgramsDo) {
  const char *home = std::getenv("HOME"), *cache = std::getenv("XDG_CACHE_HOME");
  const std::string old_home = home != nullptr ? home : "", old_cache = cache != nullptr ? cache : "";
  unsetenv("XDG_CACHE_HOME");
  const auto folder = [] { return engine(parse({"plan", "-m", "M"})).cache_folder; };
  setenv("HOME", "/home/ann", 1);
  EXPECT_EQ(folder(), "/home/ann/.cache/longspan");
  setenv("XDG_CACHE_HOME", "not/absolute", 1);
  EXPECT_EQ(folder(), "/home/ann/.cache/longspan");
  setenv("XDG_CACHE_HOME", "/var/cache/ann", 1);
  EXPECT_EQ(folder(), "/var/cache/ann/longspan");
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HOME");
  EXPECT_EQ(folder(), "");
  if (home != nullptr) setenv("HOME", old_home.c_str(), 1);
  if (cache != nullptr) setenv("XDG_CACHE_HOME", old_cache.c_str(), 1);
}

TEST(Options, BadFlagsNameTheNearest) {
  EXPECT_EQ(refusal_of_flag({"--page-sizes", "64"}),
            "usage: unknown flag --page-sizes; did you mean --page-size?");
  EXPECT_EQ(refusal_of_flag({"--page_size=64"}),
            "usage: unknown flag --page_size; did you mean --page-size?");
  EXPECT_THAT(refusal_of_flag({"--xyzzy-plugh-foo"}), HasSubstr("longspan plan --help lists the flags"));
  EXPECT_THAT(refusal_of_flag({"stray"}), HasSubstr("unexpected argument \"stray\""));
  EXPECT_EQ(options_refusal({"generat"}), "usage: unknown command generat; did you mean generate?");
  EXPECT_THAT(options_refusal({"frobnicate"}), HasSubstr("commands: generate, batch, plan, bench, eval"));
  EXPECT_THAT(options_refusal({}), HasSubstr("no command"));
  EXPECT_THAT(options_refusal({"eval", "recal", "-m", "M"}), HasSubstr("did you mean recall?"));
  EXPECT_THAT(options_refusal({"eval", "-m", "M"}), HasSubstr("no task"));
}

TEST(Options, BadValuesNameTheRule) {
  EXPECT_EQ(refusal_of_flag({"--page-size", "0"}),
            "usage: --page-size 0: must be a whole number from 1 to 65536; nearest: 1");
  EXPECT_THAT(refusal_of_flag({"--page-size", "99999999999999999999"}), HasSubstr("nearest: 65536"));
  EXPECT_THAT(refusal_of_flag({"--page-size", "-99999999999999999999"}), HasSubstr("nearest: 1"));
  EXPECT_THAT(refusal_of_flag({"--page-size", "12x"}), HasSubstr("--page-size 12x: must be a whole number"));
  EXPECT_THAT(refusal_of_flag({"--page-size", ""}), HasSubstr("--page-size \"\": must be a whole number"));
  EXPECT_THAT(refusal_of_flag({"--page-size"}), HasSubstr("--page-size"));
  EXPECT_THAT(refusal_of_flag({"--page-size"}), HasSubstr("needs a value"));
  EXPECT_THAT(refusal_of_flag({"--mem-fraction-static", "0"}), HasSubstr("must be a number > 0 and <= 1"));
  EXPECT_THAT(refusal_of_flag({"--mem-fraction-static", "nan"}), HasSubstr("must be a number > 0 and <= 1"));
  for (const char* timeout : {"0.0005", "1000001", "1e300", "inf", "nan", "-1"})
    EXPECT_THAT(refusal_of_flag({"--comm-timeout", timeout}),
                HasSubstr("must be a number >= 0.001 and <= 1000000"));
  EXPECT_THAT(refusal_of_flag({"--chunked-prefill-size", "-2"}), HasSubstr("nearest: 1"));
  EXPECT_THAT(refusal_of_flag({"--chunked-prefill-size", "0"}), HasSubstr("nearest: 1"));
  EXPECT_THAT(refusal_of_flag({"--backend", "cpuu"}),
              HasSubstr("must be one of cpu, ascend, npu, reference; did you mean cpu?"));
  EXPECT_THAT(refusal_of_flag({"--log-level", "loud"}), HasSubstr("must be one of"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "--self-check", "0.1"}),
              HasSubstr("must be 1/N or off"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "--self-check", "1/0"}),
              HasSubstr("nearest: 1"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "--stop", ""}),
              HasSubstr("--stop \"\": must not be empty"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "--top-p", "0"}),
              HasSubstr("must be a number > 0 and <= 1"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "--temperature", "-1"}),
              HasSubstr("must be a number >= 0"));
}

TEST(Options, WhatEachCommandNeeds) {
  EXPECT_THAT(options_refusal({"generate", "-p", "x"}), HasSubstr("-m is missing"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M"}), HasSubstr("no prompt"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "-f", "y"}),
              HasSubstr("more than one prompt"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "-"}), HasSubstr("more than one prompt"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "hello"}), HasSubstr("a prompt goes after -p"));
  EXPECT_THAT(options_refusal({"generate", "-m", "M", "-p", "x", "--system", "y"}),
              HasSubstr("--system needs --chat"));
  EXPECT_THAT(options_refusal({"batch", "-m", "M", "-o", "x"}), HasSubstr("-i is missing"));
  EXPECT_THAT(options_refusal({"batch", "-m", "M", "-i", "x"}), HasSubstr("-o is missing"));
  EXPECT_THAT(options_refusal({"batch", "-m", "M", "-i", "x", "-o", "-", "--json"}),
              HasSubstr("--json and -o -"));
  EXPECT_THAT(options_refusal({"eval", "ppl", "-m", "M"}), HasSubstr("--data is missing"));
  EXPECT_EQ(std::get<GenerateOptions>(parse({"generate", "-m", "M", "-"}).command).stdin_mark, "-");
}

TEST(Options, EnvironmentIsReadAndArgumentsWin) {
  const Variable page_size("LONGSPAN_PAGE_SIZE", "64");
  const Variable model("LONGSPAN_MODEL", "E");
  const Variable json("LONGSPAN_JSON", "1");
  const Variable radix("LONGSPAN_DISABLE_RADIX_CACHE", "true");
  EXPECT_EQ(engine(parse({"plan"})).page_size, 64);
  EXPECT_EQ(engine(parse({"plan"})).model, "E");
  EXPECT_TRUE(parse({"plan"}).common.json);
  EXPECT_FALSE(engine(parse({"plan"})).prefix_cache);
  EXPECT_EQ(engine(parse({"plan", "--page-size", "32", "-m", "M"})).page_size, 32);
  EXPECT_EQ(engine(parse({"plan", "--page-size", "32", "-m", "M"})).model, "M");
  const Variable bad("LONGSPAN_CP", "two");
  EXPECT_THAT(options_refusal({"plan"}), HasSubstr("--cp two: must be a whole number"));
}

TEST(Options, OnlyProcessesAreStarted) {
  EXPECT_THAT(
      options_refusal({"serve", "--restart-on-failure", "2"}),
      HasSubstr(
          "--restart-on-failure needs --comm mpi or hccl: only ranks that are processes are started again"));
  EXPECT_THAT(
      options_refusal({"serve", "--mpirun", "srun"}),
      testing::EndsWith("--mpirun needs --comm mpi or hccl: only ranks that are processes are started"));
  EXPECT_EQ(
      std::get<ServeOptions>(parse({"serve", "--comm", "mpi", "--restart-on-failure", "2"}).command).restarts,
      2);
}

TEST(Options, AVariableMayHaveSeveralKeys) {
  const Variable keys("LONGSPAN_API_KEY", "sk-one\nsk-two\n");
  const auto keys_of = [](const std::vector<std::string>& args) {
    return std::get<ServeOptions>(parse(args).command).api_keys;
  };
  EXPECT_THAT(keys_of({"serve"}), testing::ElementsAre("sk-one", "sk-two"));
  EXPECT_THAT(keys_of({"serve", "--api-key", "sk-3", "--api-key=sk-4"}),
              testing::ElementsAre("sk-3", "sk-4"));
}

TEST(Options, AVariableOfNoFlagGetsANote) {
  const Variable slip("LONGSPAN_PAGESIZE", "64");
  const Variable of_another_command("LONGSPAN_MAX_TOKENS", "5");
  const CommandLine line = parse({"plan", "-m", "M"});
  EXPECT_EQ(line.common.engine.page_size, 128);
  ASSERT_EQ(line.notes.size(), 1u);
  EXPECT_EQ(line.notes[0], "LONGSPAN_PAGESIZE: no flag has this variable; did you mean LONGSPAN_PAGE_SIZE?");
}

TEST(Options, HelpListsEveryFlagWithItsVariable) {
  const std::string help = parse({"generate", "--help"}).information;
  for (const char* text :
       {"--attn-cp-size", "LONGSPAN_CP", "--mem-fraction-static", "LONGSPAN_MEM_FRACTION_STATIC", "--prompt",
        "LONGSPAN_PROMPT", "--json", "LONGSPAN_JSON", "TOKENS"}) {
    EXPECT_THAT(help, HasSubstr(text));
  }
  EXPECT_THAT(help, HasSubstr("Usage: longspan generate [OPTIONS]"));
  EXPECT_THAT(parse({"--help"}).information, HasSubstr("generate"));
}

TEST(Options, VersionIsTheProjects) {
  std::ostringstream cmake;
  cmake << std::ifstream(LONGSPAN_SOURCE_DIR "/CMakeLists.txt").rdbuf();
  const std::string version = parse({"--version"}).information;  // "longspan 0.1.0\n"
  ASSERT_EQ(version.substr(0, 9), "longspan ");
  EXPECT_THAT(cmake.str(), HasSubstr("VERSION " + version.substr(9, version.size() - 10) + " "));
  EXPECT_EQ(parse({"plan", "--version"}).information, version);
}

TEST(Flags, Names) {
  EXPECT_EQ(flag_name("-m,--model,--model-path"), "--model");
  EXPECT_EQ(flag_name("--tp"), "--tp");
  EXPECT_EQ(flag_name("-x"), "-x");
  EXPECT_EQ(environment_name("--mem-fraction-static"), "LONGSPAN_MEM_FRACTION_STATIC");
}

}  // namespace
}  // namespace longspan::cli
