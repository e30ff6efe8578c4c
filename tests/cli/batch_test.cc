#include <unistd.h>

#include "cli/cli_test_base.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class BatchTest : public CliTest {
 protected:
  BatchTest() {
    script_.reply = [](const std::string& prompt) { return "re:" + prompt; };
  }

  CliResult run_batch(const std::string& input, std::vector<std::string> flags = {}) {
    write_file(path("in.jsonl"), input);
    flags.insert(flags.begin(), {"batch", "-m", "M", "-i", path("in.jsonl"), "-o", path("out.jsonl")});
    return run(flags);
  }
  std::vector<std::string> output() const { return lines_of(read_file(path("out.jsonl"))); }
  // One field of every output line.
  std::vector<std::string> field(const std::string& pointer) const {
    std::vector<std::string> values;
    for (const std::string& line : output()) values.push_back(json_at(line, pointer));
    return values;
  }
  static std::string prompts(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "{\"prompt\":\"" + std::to_string(i) + "\"}\n";
    return text;
  }
};

TEST_F(BatchTest, AnswersEveryLine) {
  const CliResult r = run_batch("{\"id\":\"a\",\"prompt\":\"x\"}\n{\"prompt\":\"y\"}");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(field("/id"), ElementsAre("\"a\"", "\"2\""));
  EXPECT_THAT(field("/text"), ElementsAre("\"re:x\"", "\"re:y\""));
  EXPECT_THAT(field("/error"), ElementsAre("", ""));
  EXPECT_TRUE(read_file(path("out.jsonl")).ends_with("}\n"));
  EXPECT_THAT(r.err, HasSubstr("batch: 2 requests, 0 failed, 2 prompt tokens (0 cached), 8 new tokens"));
  EXPECT_EQ(r.out, "");
}

TEST_F(BatchTest, InputOrderWhateverFinishesFirst) {
  script_.steps = [](const std::string& prompt) { return prompt == "0" ? 50 : prompt == "1" ? 9 : 0; };
  EXPECT_EQ(run_batch(prompts(5)).code, 0);
  EXPECT_THAT(field("/text"), ElementsAre("\"re:0\"", "\"re:1\"", "\"re:2\"", "\"re:3\"", "\"re:4\""));
}

TEST_F(BatchTest, LinesAreWrittenAsTheyFinish) {
  script_.steps = [](const std::string& prompt) { return prompt == "1" ? 50 : 0; };
  std::vector<std::string> half_way;
  script_.on_step = [&](int step) {
    if (step == 40) half_way = output();
  };
  run_batch(prompts(3));
  EXPECT_EQ(half_way.size(), 1u);
  EXPECT_EQ(output().size(), 3u);
}

TEST_F(BatchTest, BadLinesFailAlone) {
  const CliResult r = run_batch(
      "{\"prompt\":\"a\"}\nnonsense\n{\"prompt\":\"b\",\"top_p\":2}\n\n{\"id\":\"five\",\"prompt\":\"c\"}\n");
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(field("/id"), ElementsAre("\"1\"", "\"2\"", "\"3\"", "\"five\""));
  EXPECT_THAT(field("/finish_reason"), ElementsAre("\"stop\"", "\"error\"", "\"error\"", "\"stop\""));
  EXPECT_THAT(field("/error/code"), ElementsAre("", "\"invalid_request\"", "\"invalid_request\"", ""));
  EXPECT_THAT(field("/error/message")[2], HasSubstr("line 3: field \\\"top_p\\\""));
}

TEST_F(BatchTest, RequestsThatCannotRunFailAlone) {
  script_.context_length = 10;
  script_.pool_tokens = 5;
  const CliResult r =
      run_batch("{\"prompt\":\"aaaaaaaaaaaa\"}\n{\"prompt\":\"aaaaaaa\"}\n{\"prompt\":\"a\"}\n");
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(field("/error/code"), ElementsAre("\"context_length\"", "\"capacity\"", ""));
}

TEST_F(BatchTest, ALineOverTheLimitFailsAlone) {
  const CliResult r =
      run_batch("{\"prompt\":\"" + std::string(size_t{64} << 20, 'a') + "\"}\n{\"prompt\":\"b\"}\n");
  EXPECT_EQ(r.code, 1);
  EXPECT_EQ(json_at(output()[0], "/error/message"), "\"line 1: longer than 64 MiB\"");
  EXPECT_EQ(json_at(output()[1], "/text"), "\"re:b\"");
}

TEST_F(BatchTest, BomAndCrLfAreFine) {
  EXPECT_EQ(run_batch("\xEF\xBB\xBF{\"prompt\":\"a\"}\r\n{\"prompt\":\"b\"}\r\n").code, 0);
  EXPECT_THAT(field("/text"), ElementsAre("\"re:a\"", "\"re:b\""));
}

TEST_F(BatchTest, EmptyInput) {
  write_file(path("out.jsonl"), "old\n");
  EXPECT_EQ(run_batch("").code, 0);
  EXPECT_EQ(read_file(path("out.jsonl")), "");
}

TEST_F(BatchTest, ReadsAheadOnlySoFar) {
  script_.steps = [](const std::string& prompt) { return prompt == "0" ? 2000 : 0; };
  const CliResult r = run_batch(prompts(500), {"--max-running-requests", "2"});
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(output().size(), 500u);
  EXPECT_EQ(script_.most_running, 4u);
  EXPECT_EQ(json_at(output()[499], "/text"), "\"re:499\"");
}

TEST_F(BatchTest, StdinToStdout) {
  const CliResult r = run({"batch", "-m", "M", "-i", "-", "-o", "-"}, prompts(3));
  EXPECT_EQ(r.code, 0) << r.err;
  ASSERT_EQ(lines_of(r.out).size(), 3u);
  EXPECT_EQ(json_at(lines_of(r.out)[2], "/text"), "\"re:2\"");
}

TEST_F(BatchTest, JsonSummary) {
  const CliResult r = run_batch(prompts(3) + "x\n", {"--json"});
  EXPECT_EQ(r.code, 1);
  EXPECT_EQ(json_at(r.out, "/requests"), "4");
  EXPECT_EQ(json_at(r.out, "/failed"), "1");
  EXPECT_EQ(json_at(r.out, "/completed"), "true");
  EXPECT_EQ(json_at(r.out, "/completion_tokens"), "12");
}

TEST_F(BatchTest, InterruptWritesEveryLine) {
  script_.steps = [](const std::string& prompt) { return prompt == "0" ? 0 : 1000; };
  script_.on_step = [&](int step) { interrupted_ = step >= 10; };
  const CliResult r = run_batch(prompts(12), {"--max-running-requests", "2"});
  EXPECT_EQ(r.code, 130);
  const auto codes = field("/error/code");
  ASSERT_EQ(codes.size(), 12u);
  EXPECT_EQ(codes[0], "");
  for (size_t i = 1; i < codes.size(); ++i) EXPECT_EQ(codes[i], "\"cancelled\"") << i;
  EXPECT_THAT(r.err, HasSubstr("longspan: error: interrupted"));
}

TEST_F(BatchTest, AnInterruptDoesNotWaitForInput) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::string lines = prompts(1);
  ASSERT_EQ(write(ends[1], lines.data(), lines.size()), static_cast<ssize_t>(lines.size()));
  script_.steps = [](const std::string&) { return 1000; };
  script_.on_step = [&](int step) { interrupted_ = step >= 3; };
  const CliResult r =
      run({"batch", "-m", "M", "-i", "/dev/fd/" + std::to_string(ends[0]), "-o", path("out.jsonl")});
  EXPECT_EQ(r.code, 130);
  EXPECT_THAT(field("/error/code"), ElementsAre("\"cancelled\""));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(BatchTest, ALostRankFailsTheRest) {
  script_.steps = [](const std::string& prompt) { return prompt == "0" ? 0 : 1000; };
  script_.die_at_step = 10;
  const CliResult r = run_batch(prompts(12) + "bad\n", {"--max-running-requests", "2"});
  EXPECT_EQ(r.code, 5);
  const auto codes = field("/error/code");
  ASSERT_EQ(codes.size(), 13u);
  EXPECT_EQ(codes[0], "");
  for (size_t i = 1; i < 12; ++i) EXPECT_EQ(codes[i], "\"rank_lost\"") << i;
  EXPECT_EQ(codes[12], "\"invalid_request\"");
}

TEST_F(BatchTest, Unwritable) {
  write_file(path("in.jsonl"), prompts(3));
  const auto to = [&](const std::string& output) {
    return run({"batch", "-m", "M", "-i", path("in.jsonl"), "-o", output});
  };
  const CliResult full = to("/dev/full");
  EXPECT_EQ(full.code, 3);
  EXPECT_THAT(full.err, HasSubstr("can't write /dev/full: No space left on device"));
  EXPECT_EQ(to(path("none/out")).code, 3);
  EXPECT_EQ(to(folder_.string()).code, 3);
  EXPECT_EQ(to(path("in.jsonl")).code, 2) << "would destroy its input";
  EXPECT_EQ(read_file(path("in.jsonl")), prompts(3));
  broken_out_ = true;
  EXPECT_EQ(to("-").code, 3);
}

TEST_F(BatchTest, Unreadable) {
  EXPECT_EQ(run({"batch", "-m", "M", "-i", path("none"), "-o", path("out.jsonl")}).code, 3);
  EXPECT_EQ(run({"batch", "-m", "M", "-i", folder_.string(), "-o", path("out.jsonl")}).code, 3);
  EXPECT_FALSE(std::filesystem::exists(path("out.jsonl")));
}

TEST_F(BatchTest, OldResultsSurviveAModelThatCannotBeLoaded) {
  write_file(path("in.jsonl"), prompts(1));
  write_file(path("out.jsonl"), "old\n");
  EXPECT_EQ(run({"batch", "-m", "missing", "-i", path("in.jsonl"), "-o", path("out.jsonl")}).code, 3);
  EXPECT_EQ(read_file(path("out.jsonl")), "old\n");
}

TEST_F(BatchTest, SelfCheckTakesOneInN) {
  script_.cp_error = 0.5;
  const CliResult r = run_batch(prompts(5) + "bad\n", {"--cp", "2", "--self-check", "1/2", "--json"});
  EXPECT_EQ(r.code, 1);
  EXPECT_EQ(json_at(r.out, "/self_check_requests"), "3");
  EXPECT_EQ(json_at(r.out, "/self_check_largest_difference"), "0.5");
  EXPECT_THAT(field("/logprobs"), testing::Each("")) << "not asked for";
}

TEST_F(BatchTest, AFailedReplayIsTold) {
  script_.reply = [](const std::string& prompt) { return prompt.size() > 3 ? "" : std::string(10, 'x'); };
  script_.context_length = 5;  // the replay holds prompt and reply
  const CliResult r = run_batch(prompts(1), {"--self-check", "1/1"});
  EXPECT_EQ(r.code, 0);
  EXPECT_THAT(r.err, HasSubstr("1 replays failed, the last with: over the context"));
}

}  // namespace
}  // namespace longspan::cli
