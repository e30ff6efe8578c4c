#include "server/front.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/job.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "checkpoint/model_config.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/option_flags.h"
#include "cli/process.h"
#include "cli/serving.h"
#include "model/layout_model.h"
#include "plan/layout_rules.h"

namespace longspan::cli {
namespace {

// Everybody may read a process' arguments: keys go to the job by a variable.
std::vector<std::string> without_keys(const std::vector<std::string>& args) {
  const std::string flag = kApiKeyFlag;
  std::vector<std::string> kept;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == flag) {
      ++i;
    } else if (!args[i].starts_with(flag + "=")) {
      kept.push_back(args[i]);
    }
  }
  return kept;
}

// The launcher with its own flags.
std::vector<std::string> launcher_of(const std::string& text, int32_t ranks) {
  std::vector<std::string> launcher;
  std::istringstream words(text.empty() ? "mpirun --bind-to none" : text);
  for (std::string word; words >> word;) launcher.push_back(word);
  if (launcher.empty()) throw Error(ErrorCode::kUsage, "--mpirun: which command starts the ranks?");
  launcher.insert(launcher.end(), {"-n", std::to_string(ranks)});
  return launcher;
}

// Socket paths are short.
std::string temporary_folder() {
  constexpr size_t kLongest = 64;
  std::error_code error;
  const std::string folder = std::filesystem::temp_directory_path(error).string();
  return error || folder.size() > kLongest ? "/tmp" : folder;
}

}  // namespace

int run_front(const CommonOptions& common, const ServeOptions& options, const std::vector<std::string>& args,
              Context& context) {
  if (!built_with_mpi()) context.join_mpi(common.engine.comm_timeout_s, {});  // says what is missing
  const ModelConfig config = load_model_config(served_model(common.engine.model, context));
  const Layout layout = make_layout(common.engine.layout, layout_model(config));
  if (common.comm == "hccl" && layout.tp == 1)
    throw Error(ErrorCode::kUsage,
                "--comm hccl: one rank needs no process of its own; leave out --mpirun and "
                "--restart-on-failure");
  raise_descriptor_limit();

  server::FrontOptions front;
  front.address = {options.host, static_cast<uint16_t>(options.port)};
  front.tls_cert = options.tls_cert;
  front.tls_key = options.tls_key;
  front.launcher = launcher_of(options.launcher, layout.tp);
  front.program = without_keys(args);  // as it was started here
  front.program.insert(front.program.begin(), context.executable.string());
  front.folder_variable = kFrontVariable;
  if (!options.api_keys.empty())
    front.variables.emplace_back(
        environment_name(kApiKeyFlag),
        fmt::format("{}", fmt::join(options.api_keys, std::string(1, kApiKeySeparator))));
  if (geteuid() == 0) {  // whoever started this as root has answered Open MPI's question
    for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"})
      front.variables.emplace_back(name, "1");
  }
  front.temporary_folder = temporary_folder();
  front.restarts = options.restarts;
  front.drain_timeout_s = options.drain_timeout_s;
  front.comm_timeout_s = common.engine.comm_timeout_s;

  const auto say = [&](const std::string& text) {
    if (!common.quiet) context.err << text << std::endl;
  };
  server::FrontProcess process;
  process.told_to_stop = context.interrupted;
  process.on_listening = [&](uint16_t port) {
    context.catch_interrupts();
    say(listening_text(options, port));
  };
  process.on_ready = say;
  process.on_drain = [&] { say(kStopping); };
  process.on_restart = [&](const std::string& what) { context.err << "longspan: " << what << std::endl; };
  server::serve_front(front, process);
  return kExitOk;
}

}  // namespace longspan::cli
