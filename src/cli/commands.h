#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/options.h"

namespace longspan::cli {

/// Each runs one command and returns the exit code. Errors that end the process are thrown.
int run_generate(const CommonOptions& common, const GenerateOptions& options, Context& context);
int run_batch(const CommonOptions& common, const BatchOptions& options, Context& context);
int run_plan(const CommonOptions& common, const PlanOptions& options, Context& context);
int run_bench(const CommonOptions& common, const BenchOptions& options, Context& context);
int run_eval(const CommonOptions& common, const EvalOptions& options, Context& context);
int run_serve(const CommonOptions& common, const ServeOptions& options, Context& context);
/// The server in front of a job of ranks, which is started with the same `args`, but for its API keys.
int run_front(const CommonOptions& common, const ServeOptions& options, const std::vector<std::string>& args,
              Context& context);
int run_bench_serve(const CommonOptions& common, const BenchServeOptions& options, Context& context);
int run_doctor(const CommonOptions& common, const DoctorOptions& options, Context& context);

}  // namespace longspan::cli
