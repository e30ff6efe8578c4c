#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/fake_engine.h"

namespace longspan::cli {

/// A JSON text's value at a JSON pointer ("/usage/prompt_tokens"), as JSON; "" if there is none, "not JSON"
/// if the text isn't.
std::string json_at(const std::string& text, const std::string& pointer);
std::vector<std::string> lines_of(const std::string& text);
void write_file(const std::filesystem::path& path, const std::string& text);
std::string read_file(const std::filesystem::path& path);

struct CliResult {
  int code = -1;
  std::string out, err;
};

/// Runs the program with a fake engine and an own folder.
class CliTest : public testing::Test {
 protected:
  CliTest();
  ~CliTest() override;

  /// `stdin_text` is what a pipe at standard input holds.
  CliResult run(const std::vector<std::string>& args, const std::string& stdin_text = "");
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  FakeScript script_;
  bool interrupted_ = false;
  bool launched_ = false;    // by mpirun, with others
  bool terminal_ = false;    // standard output and error are one
  bool broken_out_ = false;  // standard output can't be written
  std::filesystem::path folder_;
};

}  // namespace longspan::cli
