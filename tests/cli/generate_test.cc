#include "cli/cli_test_base.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class GenerateTest : public CliTest {
 protected:
  GenerateTest() {
    script_.reply = [](const std::string& prompt) { return "re:" + prompt; };
  }
};

TEST_F(GenerateTest, StreamsTextAndCloses) {
  const CliResult r = run({"generate", "-m", "M", "-p", "hello"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, "re:hello\n");
  EXPECT_THAT(r.err, HasSubstr("prefill 5/5 tokens"));
  EXPECT_THAT(r.err,
              HasSubstr("TTFT 2.00 s, prefill 5 tokens 5.0 tokens/s, decode 8 tokens 14.0 tokens/s, peak "
                        "memory 3.0 MiB, fake, 1 rank (cp 1) x 1 thread"));
}

TEST_F(GenerateTest, QuietSaysNothing) {
  const CliResult r = run({"generate", "-m", "M", "-p", "hello", "-q"});
  EXPECT_EQ(r.out, "re:hello\n");
  EXPECT_EQ(r.err, "");
}

TEST_F(GenerateTest, PromptFromFileOrStdin) {
  write_file(path("prompt.txt"), "from file\n");
  EXPECT_EQ(run({"generate", "-m", "M", "-f", path("prompt.txt")}).out, "re:from file\n\n");
  EXPECT_EQ(run({"generate", "-m", "M", "-f", "-"}, "piped").out, "re:piped\n");
  EXPECT_EQ(run({"generate", "-m", "M", "-"}, "piped").out, "re:piped\n");
}

TEST_F(GenerateTest, ChatWrapsThePrompt) {
  EXPECT_EQ(run({"generate", "-m", "M", "--chat", "-p", "hi"}).out, "re:<user>hi\n");
  EXPECT_EQ(run({"generate", "-m", "M", "--chat", "--system", "be kind", "-p", "hi"}).out,
            "re:<system>be kind<user>hi\n");
}

TEST_F(GenerateTest, OptionsReachTheEngine) {
  run({"generate", "-m", "M", "-p", "hi", "--cp", "3", "--tp", "6", "--max-tokens", "2", "--top-k", "4"});
  ASSERT_EQ(script_.opened.size(), 1u);
  EXPECT_EQ(script_.opened[0].layout.cp, 3);
  EXPECT_EQ(script_.opened[0].layout.tp, 6);
  EXPECT_EQ(script_.samplings[0].max_tokens, 2);
  EXPECT_EQ(script_.samplings[0].top_k, 4);
  EXPECT_EQ(script_.samplings[0].logprobs, -1);
}

TEST_F(GenerateTest, Json) {
  const CliResult r = run({"generate", "-m", "M", "-p", "hi", "--json"});
  EXPECT_EQ(r.code, 0);
  ASSERT_EQ(lines_of(r.out).size(), 1u);
  EXPECT_EQ(json_at(r.out, "/text"), "\"re:hi\"");
  EXPECT_EQ(json_at(r.out, "/finish_reason"), "\"stop\"");
  EXPECT_EQ(json_at(r.out, "/usage/prompt_tokens"), "2");
  EXPECT_EQ(json_at(r.out, "/timing/ttft_ms"), "2000");
  EXPECT_EQ(json_at(r.out, "/peak_memory_bytes"), "3145728");
  EXPECT_EQ(json_at(r.out, "/engine/device"), "\"fake\"");
}

TEST_F(GenerateTest, ProgressLines) {
  script_.chunk = 25;
  const CliResult r = run({"generate", "-m", "M", "-p", std::string(100, 'x')});
  EXPECT_THAT(r.err, HasSubstr("prefill 25/100 tokens, 1000 tokens/s, ETA 0.1 s\nprefill 50/100"));
  EXPECT_THAT(r.err, HasSubstr("prefill 100/100 tokens, 1000 tokens/s\n"));
}

TEST_F(GenerateTest, ProgressBarIsGoneBeforeText) {
  terminal_ = true;
  const CliResult r = run({"generate", "-m", "M", "-p", "hello"});
  EXPECT_THAT(r.err, HasSubstr("\r\033[K[########################] prefill 5/5 tokens"));
  EXPECT_THAT(r.err, HasSubstr("\r\033[KTTFT"));
}

TEST_F(GenerateTest, BadPrompts) {
  const auto refused = [&](std::vector<std::string> flags, int code, const std::string& message,
                           const std::string& stdin_text = "") {
    flags.insert(flags.begin(), {"generate", "-m", "M"});
    const CliResult r = run(flags, stdin_text);
    EXPECT_EQ(r.code, code) << r.err;
    EXPECT_THAT(r.err, HasSubstr(message));
    EXPECT_EQ(lines_of(r.err).size(), 1u) << r.err;
    EXPECT_THAT(r.err, testing::StartsWith("longspan: error: "));
    EXPECT_EQ(r.out, "");
    EXPECT_TRUE(script_.opened.empty()) << "the model need not be loaded to say so";
  };
  refused({"-p", ""}, 2, "the prompt is empty");
  refused({"-"}, 2, "standard input is empty");
  refused({"-f", path("none.txt")}, 3, "can't read " + path("none.txt") + ": No such file");
  refused({"-f", folder_.string()}, 3, "it is a folder");
  refused({"-p", "ab\xff"}, 2, "byte 2 (0xff) is not UTF-8");
  write_file(path("latin1.txt"), "caf\xe9");
  refused({"-f", path("latin1.txt")}, 3, "latin1.txt: byte 3 (0xe9) is not UTF-8");
  refused({"-"}, 3, "standard input: byte 0 (0x80) is not UTF-8", "\x80");
  refused({"-p", "a", "-f", "b"}, 2, "more than one prompt");
}

TEST_F(GenerateTest, FailuresHaveTheirExitCodes) {
  script_.context_length = 3;
  EXPECT_EQ(run({"generate", "-m", "M", "-p", "hello"}).code, 2);
  script_.context_length = 100;
  script_.pool_tokens = 3;
  EXPECT_EQ(run({"generate", "-m", "M", "-p", "hello"}).code, 4);
  script_.pool_tokens = 100;
  script_.die_at_step = 2;
  const CliResult lost = run({"generate", "-m", "M", "-p", "hello", "--json"});
  EXPECT_EQ(lost.code, 5);
  EXPECT_EQ(json_at(lost.out, "/error/code"), "\"rank_lost\"");
  EXPECT_EQ(json_at(lost.out, "/error/message"), "\"a rank was lost\"");
  EXPECT_EQ(run({"generate", "-m", "missing", "-p", "x"}).code, 3);
  EXPECT_EQ(run({"generate", "-m", "M", "-p", "x", "--backend", "cuda"}).code, 2);
  EXPECT_EQ(run({"generate", "-m", "M", "-p", "x", "--frob"}).code, 2);
}

TEST_F(GenerateTest, InterruptCancels) {
  script_.on_step = [&](int step) { interrupted_ = step == 3; };
  const CliResult r = run({"generate", "-m", "M", "-p", "hello"});
  EXPECT_EQ(r.code, 130);
  EXPECT_EQ(r.out, "re:\n") << "what had been generated stays";
  EXPECT_THAT(r.err, HasSubstr("longspan: error: interrupted"));
}

TEST_F(GenerateTest, AClosedStandardOutputEndsIt) {
  broken_out_ = true;
  script_.reply = [](const std::string&) { return std::string(100000, 'x'); };
  int steps = 0;
  script_.on_step = [&](int step) { steps = step; };
  const CliResult r = run({"generate", "-m", "M", "-p", "hello"});
  EXPECT_EQ(r.code, 3);
  EXPECT_THAT(r.err, HasSubstr("can't write to standard output"));
  EXPECT_LT(steps, 10);
}

TEST_F(GenerateTest, NotesComeOnce) {
  const CliResult r = run({"generate", "-m", "M", "-p", "x", "--trust-remote-code", "-q"});
  EXPECT_EQ(r.err, "longspan: note: --trust-remote-code has no effect here\n");
}

TEST_F(GenerateTest, SelfCheckReplaysAtCpOne) {
  script_.cp_error = 0.25;
  const CliResult r =
      run({"generate", "-m", "M", "-p", "hello", "--cp", "2", "--self-check", "1/1", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(
      r.err, HasSubstr("self-check: 1 requests, 12 tokens, largest log-probability difference 0.25 to cp 1"));
  EXPECT_EQ(json_at(r.out, "/self_check_largest_difference"), "0.25");
  EXPECT_EQ(json_at(r.out, "/prompt_logprobs"), "") << "not asked for";
  ASSERT_EQ(script_.opened.size(), 2u);
  EXPECT_EQ(script_.opened[0].layout.cp, 1);
  EXPECT_EQ(script_.opened[1].layout.cp, 2);
  EXPECT_DOUBLE_EQ(script_.opened[0].mem_fraction + script_.opened[1].mem_fraction, 0.7);
  script_.cp_error = 0;
  EXPECT_THAT(run({"generate", "-m", "M", "-p", "hello", "--cp", "2", "--self-check", "1/1"}).err,
              HasSubstr("difference 0 to cp 1"));
}

TEST_F(GenerateTest, HelpAndVersionGoToStdout) {
  EXPECT_EQ(run({"generate", "--help"}).code, 0);
  EXPECT_THAT(run({"generate", "--help"}).out, HasSubstr("--max-tokens"));
  EXPECT_THAT(run({"--version"}).out, HasSubstr("longspan "));
  EXPECT_EQ(run({}).code, 2);
  EXPECT_EQ(run({"serf"}).code, 2);
}

}  // namespace
}  // namespace longspan::cli
