#include "cli/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "cli/options.h"

namespace longspan::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string printed(const std::vector<std::string>& args) {
  return parse_command_line(args).information;
}

std::vector<std::string> commands() {
  const std::string help = printed({"--help"});
  const std::regex line("\n  ([a-z-]+) +[A-Z]");
  std::vector<std::string> names;
  for (std::sregex_iterator it(help.begin(), help.end(), line), end; it != end; ++it)
    names.push_back((*it)[1]);
  return names;
}

// As CLI11 prints them: "  -m,--model,--model-path FOLDER (Env:LONGSPAN_MODEL)".
std::vector<std::string> flags_of(const std::string& command) {
  const std::string help = printed({command, "--help"});
  const std::regex name("[\n ,](-[a-zA-Z]|--[a-z][a-z-]*)(?=[ ,\n])");
  std::vector<std::string> names;
  for (std::sregex_iterator it(help.begin(), help.end(), name), end; it != end; ++it) {
    const std::string line = help.substr(0, static_cast<size_t>(it->position()) + 1);
    if (line.substr(line.rfind('\n') + 1).find_first_not_of(" ,-abcdefghijklmnopqrstuvwxyzVCD") ==
        std::string::npos)
      names.push_back((*it)[1]);
  }
  return names;
}

std::string without_escapes(const std::string& troff) {
  return std::regex_replace(troff, std::regex("\\\\(?=-)"), "");
}

TEST(Reference, TheManPageHasEveryCommandFlagAndVariable) {
  const std::string page = printed({"help", "man"});
  EXPECT_EQ(page.find(".TH LONGSPAN 1 "), 0u);
  const std::string text = without_escapes(page);
  ASSERT_GE(commands().size(), 8u);
  for (const std::string& command : commands()) {
    EXPECT_THAT(text, HasSubstr(".SS \"longspan " + command));
    const auto flags = flags_of(command);
    ASSERT_GE(flags.size(), 10u) << command;
    for (const std::string& flag : flags) EXPECT_THAT(text, HasSubstr("\\fB" + flag + "\\fR")) << command;
  }
  for (const char* part : {"LONGSPAN_MAX_QUEUED_REQUESTS", ".B 130", "gsm8k|recall|ppl", "serve.env"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(text, Not(HasSubstr("--cuda-graph-max-bs")));  // accepted from others, told to nobody
}

TEST(Reference, TheManPageTellsOnceWhatAllCommandsHave) {
  const std::string text = without_escapes(printed({"help", "man"}));
  const auto count = [&](const std::string& what) {
    size_t found = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
    return found;
  };
  EXPECT_EQ(count("\\fB--page-size\\fR"), 1u);
  EXPECT_EQ(count("\\fB--seed\\fR"), commands().size() - 4);  // not batch, plan, serve, doctor
}

TEST(Reference, TheCompletionHasEveryCommandAndFlag) {
  const std::string script = printed({"help", "bash"});
  for (const std::string& command : commands()) {
    const size_t begin = script.find("    " + command + ") flags='");
    ASSERT_NE(begin, std::string::npos) << command;
    const std::string line = script.substr(begin, script.find('\n', begin) - begin);
    for (const std::string& flag : flags_of(command))
      EXPECT_TRUE(std::regex_search(line, std::regex("[ ']" + flag + "[ ']"))) << command << " " << flag;
  }
}

TEST(Reference, EscapesWhatTroffWouldTakeForARequest) {
  const std::vector<CommandReference> commands = {
      {"go", "Go on", "longspan go", {}, {{{"-x", "--ex"}, "A|b", "-1", ".dot (--ex) -1: off, a-b", "V"}}},
      {"stop", "'Tis over", "longspan stop", {}, {}}};
  const std::string page = man_page(commands, "1");
  EXPECT_THAT(page, HasSubstr("\\fB\\-x\\fR, \\fB\\-\\-ex\\fR \\fIA|b\\fR\n\\&.dot (\\-\\-ex) \\-1: off, "
                              "a-b. Default: \\-1. Variable: V.\n"));
  EXPECT_THAT(page, HasSubstr("\n\\&'Tis over.\n"));
}

TEST(Reference, HelpTakesACommand) {
  EXPECT_EQ(printed({"help", "plan"}), printed({"plan", "--help"}));
  EXPECT_EQ(printed({"help"}), printed({"--help"}));
  EXPECT_THROW(printed({"help", "nothing"}), Error);
}

}  // namespace
}  // namespace longspan::cli
