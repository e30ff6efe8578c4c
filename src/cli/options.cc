#include "cli/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "base/nearest.h"
#include "base/version.h"
#include "cli/option_flags.h"
#include "cli/reference.h"

namespace longspan::cli {
namespace {

const std::vector<std::string> kCommands = {"generate", "batch", "plan",        "bench",
                                            "eval",     "serve", "bench-serve", "doctor"};

const std::vector<std::string> kEvalTasks = {"gsm8k", "recall", "ppl"};

struct CommandHelp {
  const char* summary;
  const char* footer;
};

const std::map<std::string, CommandHelp> kHelp = {
    {"generate",
     {"Answer one prompt, streaming", "longspan generate -m models/recall-moe -f book.txt --cp 2 --chat"}},
    {"batch",
     {"Answer many requests from a file", "longspan batch -m MODEL -i requests.jsonl -o results.jsonl"}},
    {"plan",
     {"Explain a layout before anything is loaded", "longspan plan -m MODEL --cp 4 --lengths 4096,131072"}},
    {"bench", {"Time prefill and decode", "longspan bench -m MODEL -p 512,4096 --cp 1,2 -b 1,4 -r 5"}},
    {"eval",
     {"Score a model: gsm8k, recall or ppl",
      "longspan eval recall -m models/recall-moe --lengths 1024,4096"}},
    {"serve", {"Answer over HTTP as OpenAI's API does", "longspan serve --cp 2 --port 8080"}},
    {"bench-serve",
     {"Measure an OpenAI-compatible server under load",
      "longspan bench-serve --url http://127.0.0.1:8080 -m models/recall-moe --mix gsm8k=3,8192=1 --rate 2"}},
    {"doctor",
     {"Check a device: what is installed, and every op against the reference",
      "longspan doctor --backend ascend"}},
};

std::string program_help() {
  std::string text =
      "Longspan: long prompts on several ranks\n\nUsage: longspan COMMAND [flags]\n\nCommands:\n";
  for (const std::string& command : kCommands) {
    text += fmt::format("  {:<12} {}\n", command, kHelp.at(command).summary);
  }
  return text +
         "\nlongspan COMMAND --help lists a command's flags; each has an environment form, "
         "LONGSPAN_<FLAG>.\nlongspan help man prints a man page, longspan help bash and longspan help zsh "
         "completion scripts.\n";
}

[[noreturn]] void unknown_command(const std::string& word) {
  const std::string near = nearest(word, kCommands);
  throw Error(ErrorCode::kUsage,
              near.empty() ? fmt::format("unknown command {}; commands: {}", word, fmt::join(kCommands, ", "))
                           : fmt::format("unknown command {}; did you mean {}?", word, near));
}

[[noreturn]] void unexpected_argument(const CLI::App& app, const std::string& argument) {
  if (!argument.starts_with("-")) {
    throw Error(ErrorCode::kUsage,
                fmt::format("unexpected argument \"{}\"; longspan {} --help lists the flags", argument,
                            app.get_name()));
  }
  const std::string word = argument.substr(0, argument.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string near = nearest(word, names);
  throw Error(ErrorCode::kUsage,
              near.empty()
                  ? fmt::format("unknown flag {}; longspan {} --help lists the flags", word, app.get_name())
                  : fmt::format("unknown flag {}; did you mean {}?", word, near));
}

// Declares the command's flags and gives it its place in `line`.
void add_command(const std::string& name, FlagSet& flags, CommandLine& line, bool& version) {
  std::vector<int64_t>* cp_list = nullptr;
  if (name == "generate") {
    add_generate_flags(flags, line.command.emplace<GenerateOptions>());
  } else if (name == "batch") {
    add_batch_flags(flags, line.command.emplace<BatchOptions>());
  } else if (name == "plan") {
    add_plan_flags(flags, line.command.emplace<PlanOptions>());
  } else if (name == "bench") {
    auto& options = line.command.emplace<BenchOptions>();
    add_bench_flags(flags, options);
    cp_list = &options.cp;
  } else if (name == "eval") {
    add_eval_flags(flags, line.command.emplace<EvalOptions>());
  } else if (name == "serve") {
    add_serve_flags(flags, line.command.emplace<ServeOptions>());
  } else if (name == "bench-serve") {
    add_bench_serve_flags(flags, line.command.emplace<BenchServeOptions>());
  } else {
    line.command.emplace<DoctorOptions>();
  }
  add_common_flags(flags, line.common, cp_list);
  flags.toggle("-V,--version", version, true, "print the version");
}

FlagReference flag_reference(const CLI::Option& option) {
  FlagReference flag;
  for (const std::string& name : option.get_snames()) flag.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) flag.names.push_back("--" + name);
  if (option.get_type_size() != 0) flag.unit = option.get_type_name();
  flag.default_text = option.get_default_str();
  flag.help = option.get_description();
  flag.variable = option.get_envname();
  return flag;
}

void for_each_option(const std::string& command, const std::function<void(const CLI::Option&)>& visit) {
  CLI::App app;
  CommandLine scratch;
  std::vector<std::string> without_effect;
  bool version = false;
  FlagSet flags(app, without_effect);
  add_command(command, flags, scratch, version);
  for (const CLI::Option* option : app.get_options()) visit(*option);
}

// What the flags' own declarations say.
std::vector<CommandReference> command_reference() {
  std::vector<CommandReference> commands;
  for (const std::string& name : kCommands) {
    commands.push_back({.name = name,
                        .summary = kHelp.at(name).summary,
                        .example = kHelp.at(name).footer,
                        .words = name == "eval" ? kEvalTasks : std::vector<std::string>(),
                        .flags = {}});
    for_each_option(name, [&](const CLI::Option& option) {
      const bool hidden = option.get_group().empty() || option.get_positional();
      if (!hidden) commands.back().flags.push_back(flag_reference(option));
    });
  }
  return commands;
}

// A variable that looks like a flag's and is none's does nothing: most likely a slip.
void note_unknown_variables(CommandLine& line) {
  std::vector<std::string> set;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.starts_with("LONGSPAN_")) set.emplace_back(text.substr(0, text.find('=')));
  }
  if (set.empty()) return;
  std::vector<std::string> known;
  for (const std::string& command : kCommands) {
    for_each_option(command, [&](const CLI::Option& option) { known.push_back(option.get_envname()); });
  }
  for (const std::string& name : set) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string near = nearest(name, known);
    line.notes.push_back(fmt::format("{}: no flag has this variable{}", name,
                                     near.empty() ? "" : fmt::format("; did you mean {}?", near)));
  }
}

// Ranks of one card exchange nothing but KV, in one pool: other layouts on ascend, and sharded KV, get cards,
// unless --comm says otherwise. Ranks with cards are threads of one process, or, where mpirun has started
// several, processes.
void settle_comm(CommandLine& line) {
  CommonOptions& common = line.common;
  const LayoutOptions& layout = common.engine.layout;
  const bool more_than_one_pool = layout.tp > layout.cp || layout.ep > 1 ||
                                  (layout.moe_dp > 0 && layout.moe_dp != layout.cp) ||
                                  (common.engine.shard_kv && layout.cp > 1);
  if (!common.comm_given && common.engine.backend == "ascend" && more_than_one_pool) common.comm = "hccl";
  common.engine.hccl = common.comm == "hccl";
  if (common.engine.hccl && common.engine.backend != "ascend")
    throw Error(ErrorCode::kUsage,
                fmt::format("--comm hccl: is for --backend ascend, not {}; use threads or mpi",
                            common.engine.backend));
  const char* launched = std::getenv("OMPI_COMM_WORLD_SIZE");
  const bool one_of_several = launched && std::string(launched) != "1";
  for (const char* other : {"PMI_SIZE", "PMIX_RANK"})  // MPICH's and Slurm's
    if (common.engine.hccl && !launched && std::getenv(other))
      throw Error(ErrorCode::kNotSupported,
                  fmt::format("--comm hccl: {} is set, so another launcher than Open MPI's has started this "
                              "process; start the ranks with mpirun, or unset it for one process",
                              other));
  common.in_job = common.comm == "mpi" || (common.engine.hccl && one_of_several);
}

// Which exchanges there are depends on whether pages are copied or dealt out.
void check_exchange(const CommonOptions& common) {
  const std::string& exchange = common.kv_exchange;
  const auto refuse = [&](const char* why) {
    throw Error(ErrorCode::kUsage, fmt::format("--kv-exchange {}: {}", exchange, why));
  };
  const bool whole = exchange == "shared" || exchange == "gather";
  if (common.engine.shard_kv && whole)
    refuse("needs all KV on every rank; with --kv shard use auto, gather-kv, gather-q or ring");
  if (!common.engine.shard_kv && !whole && exchange != "auto")
    refuse("is for --kv shard; with --kv replicate use auto, shared or gather");
  if (exchange == "shared" && common.comm == "mpi")
    refuse("processes share no memory; with --comm mpi use auto or gather");
  if (exchange == "shared" && common.comm == "hccl")
    refuse("cards share no memory; use auto or gather, or --comm threads, whose ranks share a card");
}

void check_rules(const CommandLine& line) {
  const auto require = [](bool ok, const std::string& message) {
    if (!ok) throw Error(ErrorCode::kUsage, message);
  };
  if (std::holds_alternative<DoctorOptions>(line.command)) return;
  check_exchange(line.common);
  if (const auto* serve = std::get_if<ServeOptions>(&line.command)) {
    require(serve->tls_cert.empty() == serve->tls_key.empty(),
            fmt::format("{} needs {}: TLS takes a certificate and its key",
                        serve->tls_key.empty() ? "--tls-cert" : "--tls-key",
                        serve->tls_key.empty() ? "--tls-key" : "--tls-cert"));
    const bool restarts = serve->restarts > 0;
    const bool processes = line.common.comm == "mpi" || line.common.comm == "hccl";
    require(processes || (!restarts && serve->launcher.empty()),
            fmt::format("{} needs --comm mpi or hccl: only ranks that are processes are started{}",
                        restarts ? "--restart-on-failure" : "--mpirun", restarts ? " again" : ""));
    return;
  }
  if (const auto* load = std::get_if<BenchServeOptions>(&line.command)) {
    const bool documents =
        std::any_of(load->mix.begin(), load->mix.end(), [](const LoadKind& kind) { return kind.tokens > 0; });
    require(
        !documents || !line.common.engine.model.empty(),
        "-m is missing: documents in --mix need a model folder with recall data, such as models/recall-moe");
    return;
  }
  const auto* asked = std::get_if<EvalOptions>(&line.command);
  const bool remote = asked && !asked->url.empty();
  require(!remote || asked->task != "ppl",
          "eval ppl --url: a server's log-probabilities are not read; leave out --url");
  require(!line.common.engine.model.empty() || (remote && asked->task == "gsm8k"),
          "-m is missing: which model folder? (-m FOLDER)");
  if (const auto* generate = std::get_if<GenerateOptions>(&line.command)) {
    require(generate->stdin_mark.empty() || generate->stdin_mark == "-",
            fmt::format("unexpected argument \"{}\"; a prompt goes after -p, a file after -f",
                        generate->stdin_mark));
    const int sources =
        generate->prompt.has_value() + !generate->file.empty() + !generate->stdin_mark.empty();
    require(sources > 0, "no prompt: give one of -p TEXT, -f FILE or - (standard input)");
    require(sources == 1, "more than one prompt: give one of -p TEXT, -f FILE or - (standard input)");
    require(generate->system.empty() || generate->chat, "--system needs --chat");
  } else if (const auto* batch = std::get_if<BatchOptions>(&line.command)) {
    require(!batch->input.empty(), "-i is missing: where are the requests? (-i FILE, - for standard input)");
    require(!batch->output.empty(), "-o is missing: where do results go? (-o FILE, - for standard output)");
    require(!line.common.json || batch->output != "-",
            "--json and -o - both write to standard output; give -o FILE");
  } else if (const auto* eval = std::get_if<EvalOptions>(&line.command)) {
    if (std::find(kEvalTasks.begin(), kEvalTasks.end(), eval->task) == kEvalTasks.end()) {
      const std::string near = nearest(eval->task, kEvalTasks);
      throw Error(ErrorCode::kUsage,
                  eval->task.empty()
                      ? "no task: longspan eval gsm8k, recall or ppl"
                      : fmt::format("unknown task {}; tasks: gsm8k, recall, ppl{}", eval->task,
                                    near.empty() ? "" : fmt::format("; did you mean {}?", near)));
    }
    require(eval->task != "ppl" || !eval->data.empty(), "--data is missing: which text file? (--data FILE)");
  }
}

}  // namespace

namespace {

// CANN's own variables, which its set_env.sh and other engines set.
void read_ascend_environment(AscendOptions& ascend) {
  if (const char* home = std::getenv("ASCEND_HOME_PATH")) ascend.home = home;
  if (const char* fia = std::getenv("ASCEND_USE_FIA")) {
    const std::string text = fia;
    ascend.use_fia = text != "0" && text != "false";
  }
  if (const char* launches = std::getenv("ASCEND_CP_LAUNCHES"); launches && *launches)
    ascend.cp_launches = static_cast<int32_t>(parse_integer("ASCEND_CP_LAUNCHES", launches, 0, 2));
}

// Where programs keep what they can find out again; nowhere without a home.
std::string cache_folder() {
  const auto absolute = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] == '/' ? value : "";
  };
  if (const auto cache = absolute("XDG_CACHE_HOME"); !cache.empty()) return cache / "longspan";
  if (const auto home = absolute("HOME"); !home.empty()) return home / ".cache/longspan";
  return "";
}

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& args) {
  CommandLine line;
  read_ascend_environment(line.common.engine.ascend);
  line.common.engine.cache_folder = cache_folder();
  if (args.empty()) throw Error(ErrorCode::kUsage, "no command; longspan --help lists them");
  const std::string& name = args[0];
  if (name == "help" && args.size() > 1) {
    const std::string& topic = args[1];
    if (topic == "man") {
      line.information = man_page(command_reference(), kVersion);
    } else if (topic == "bash") {
      line.information = bash_completion(command_reference());
    } else if (topic == "zsh") {
      line.information = zsh_completion(command_reference());
    } else {
      return parse_command_line({topic, "--help"});
    }
    return line;
  }
  if (name == "--help" || name == "-h" || name == "help") {
    line.information = program_help();
    return line;
  }
  if (name == "--version" || name == "-V") {
    line.information = fmt::format("longspan {}\n", kVersion);
    return line;
  }
  if (std::find(kCommands.begin(), kCommands.end(), name) == kCommands.end()) unknown_command(name);

  CLI::App app(kHelp.at(name).summary, name);
  app.allow_extras();
  app.footer(fmt::format("Example: {}", kHelp.at(name).footer));
  app.get_formatter()->column_width(44);
  std::vector<std::string> without_effect;
  FlagSet flags(app, without_effect);
  bool version = false;
  add_command(name, flags, line, version);
  try {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend() - 1));
  } catch (const CLI::CallForHelp&) {
    line.information = app.help("longspan");
    return line;
  } catch (const CLI::ArgumentMismatch& e) {
    const std::string what = e.what();
    throw Error(ErrorCode::kUsage, fmt::format("{} needs a value", what.substr(0, what.find(':'))));
  } catch (const CLI::ParseError& e) {
    throw Error(ErrorCode::kUsage, e.what());
  }
  if (version) {
    line.information = fmt::format("longspan {}\n", kVersion);
    return line;
  }
  if (const auto extras = app.remaining(); !extras.empty()) unexpected_argument(app, extras[0]);
  if (!without_effect.empty()) {
    line.notes.push_back(fmt::format("{} {} no effect here", fmt::join(without_effect, ", "),
                                     without_effect.size() > 1 ? "have" : "has"));
  }
  note_unknown_variables(line);
  settle_comm(line);
  check_rules(line);
  return line;
}

}  // namespace longspan::cli
