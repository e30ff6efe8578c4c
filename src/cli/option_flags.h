#pragma once

#include "cli/flags.h"
#include "cli/options.h"

namespace longspan::cli {

/// A server's keys, of which the flag's variable takes several, too.
inline constexpr const char* kApiKeyFlag = "--api-key";
inline constexpr char kApiKeySeparator = '\n';

/// Each declares its struct's flags; the struct must outlive the parse. With `cp_list`, --cp takes a list
/// and the layout's own cp stays as it is.
void add_common_flags(FlagSet& flags, CommonOptions& options, std::vector<int64_t>* cp_list = nullptr);
void add_generate_flags(FlagSet& flags, GenerateOptions& options);
void add_batch_flags(FlagSet& flags, BatchOptions& options);
void add_plan_flags(FlagSet& flags, PlanOptions& options);
void add_bench_flags(FlagSet& flags, BenchOptions& options);
void add_eval_flags(FlagSet& flags, EvalOptions& options);
void add_serve_flags(FlagSet& flags, ServeOptions& options);
void add_bench_serve_flags(FlagSet& flags, BenchServeOptions& options);

}  // namespace longspan::cli
