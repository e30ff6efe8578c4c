#include "cli/cli_test_base.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/run.h"
#include "comm/job.h"

namespace longspan::cli {

std::string json_at(const std::string& text, const std::string& pointer) {
  const auto value = nlohmann::json::parse(text, nullptr, false);
  if (value.is_discarded()) return "not JSON";
  const nlohmann::json::json_pointer at(pointer);
  return value.contains(at) ? value[at].dump() : "";
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string read_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// A place in a job of processes that aren't there.
class FakeJob final : public Job {
 public:
  FakeJob(int32_t rank, int32_t size) : rank_(rank), size_(size) {}
  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }
  std::unique_ptr<Communicator> make_group(std::vector<int32_t>, int32_t,
                                           std::optional<std::chrono::milliseconds>) override {
    return nullptr;
  }
  int64_t staging_bytes() const override { return 0; }
  void require_alive() override {}
  std::string lost() override { return {}; }
  void abort(std::string_view) noexcept override {}
  void leave() override {}

 private:
  int32_t rank_, size_;
};

CliTest::CliTest() {
  std::string name = (std::filesystem::temp_directory_path() / "longspan_cli_XXXXXX").string();
  folder_ = mkdtemp(name.data());
}

CliTest::~CliTest() {
  std::filesystem::remove_all(folder_);
}

CliResult CliTest::run(const std::vector<std::string>& args, const std::string& stdin_text) {
  write_file(folder_ / "stdin", stdin_text);
  FILE* in = std::fopen(path("stdin").c_str(), "rb");
  std::ostringstream out, err;
  if (broken_out_) out.setstate(std::ios::badbit);
  double clock = 0;
  Context context{out, err};
  context.in_fd = fileno(in);
  context.out_is_terminal = context.err_is_terminal = terminal_;
  context.executable = std::filesystem::path(LONGSPAN_SOURCE_DIR) / "build" / "longspan";
  context.open_engine = [this](const EngineOptions& options) -> std::unique_ptr<Engine> {
    if (options.model == "missing") throw Error(ErrorCode::kUnreadable, "missing: no such model folder");
    return std::make_unique<FakeEngine>(script_, options);
  };
  context.launched = launched_;
  context.join_mpi = [this](double, const std::function<bool()>&) -> std::shared_ptr<Job> {
    script_.job = std::make_shared<FakeJob>(script_.job_rank, 3);
    return script_.job;
  };
  context.follow = [this](const EngineOptions& options) {
    script_.followed.push_back(options);
    if (script_.follow_error) throw Error(*script_.follow_error);
  };
  context.now = [&clock] { return clock += 1; };
  context.peak_memory_bytes = [] { return int64_t{3} << 20; };
  context.catch_interrupts = [] {};
  context.interrupted = [this] { return interrupted_; };
  CliResult result;
  result.code = cli::run(args, context);
  result.out = out.str();
  result.err = err.str();
  std::fclose(in);
  return result;
}

}  // namespace longspan::cli
