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

// The launcher with its own flags, and the program as it was started here.
std::vector<std::string> launch_command(const std::string& launcher, int32_t ranks,
                                        const std::filesystem::path& executable,
                                        const std::vector<std::string>& args) {
  std::vector<std::string> command;
  std::istringstream words(launcher);
  for (std::string word; words >> word;) command.push_back(word);
  if (command.empty()) throw Error(ErrorCode::kUsage, "--mpirun: which command starts the ranks?");
  command.insert(command.end(), {"-n", std::to_string(ranks), executable.string()});
  command.insert(command.end(), args.begin(), args.end());
  return command;
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
  raise_descriptor_limit();

  server::FrontOptions front;
  front.address = {options.host, static_cast<uint16_t>(options.port)};
  front.tls_cert = options.tls_cert;
  front.tls_key = options.tls_key;
  front.command = launch_command(options.launcher, layout.tp, context.executable, without_keys(args));
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
