#include "cli/eval.h"

#include <cmath>
#include <map>

#include "cli/cli_test_base.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class EvalTest : public CliTest {};

TEST(Gsm8k, LastNumber) {
  const auto number = [](const char* text) { return last_number(text).value_or("none"); };
  EXPECT_EQ(number("She has 18 left.\n#### 18"), "18");
  EXPECT_EQ(number("#### 1,234"), "1234");
  EXPECT_EQ(number("It costs $2,500.00."), "2500");
  EXPECT_EQ(number("the answer is 18."), "18");
  EXPECT_EQ(number("-5"), "-5");
  EXPECT_EQ(number("x = -5.50"), "-5.5");
  EXPECT_EQ(number("10-3"), "3");
  EXPECT_EQ(number("10 - 3"), "3");
  EXPECT_EQ(number("0.75"), "0.75");
  EXPECT_EQ(number(".5 of it"), "0.5");
  EXPECT_EQ(number("007"), "7");
  EXPECT_EQ(number("-0"), "0");
  EXPECT_EQ(number("0.0"), "0");
  EXPECT_EQ(number("1 of 2, then 3 apples"), "3");
  EXPECT_EQ(number("50%"), "50");
  EXPECT_EQ(number("123456789012345678901"), "123456789012345678901");
  EXPECT_EQ(number(""), "none");
  EXPECT_EQ(number("no number. - $ ,"), "none");
}

TEST_F(EvalTest, Gsm8kScoresByTheLastNumber) {
  std::map<std::string, std::string> answers = {
      {"Janet", "She makes 9 * 2 = $18.00 a day.\n#### 18"},  // right: 18
      {"A robe", "2 + 1 = 4"},                                // wrong: 3
      {"Josh", "I can't say"},                                // wrong
  };
  script_.reply = [&](const std::string& prompt) {
    const size_t last = prompt.rfind("Question: ");
    for (const auto& [start, answer] : answers) {
      if (prompt.compare(last + 10, start.size(), start) == 0) return answer;
    }
    return std::string("?");
  };
  const CliResult r = run({"eval", "gsm8k", "-m", "M", "--limit", "3", "--parallel", "2", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json_at(r.out, "/total"), "3");
  EXPECT_EQ(json_at(r.out, "/correct"), "1");
  EXPECT_EQ(json_at(r.out, "/shots"), "5");
  EXPECT_NEAR(std::stod(json_at(r.out, "/exact_match")), 1.0 / 3, 1e-12);
  EXPECT_THAT(r.err, HasSubstr("gsm8k: 1 of 3 right, exact match 0.3333, 5-shot"));
  EXPECT_EQ(script_.most_running, 2u);
  const std::string prompt = prompt_text(script_.prompts[0]);
  EXPECT_TRUE(prompt.ends_with("\nAnswer:"));
  size_t questions = 0;
  for (size_t at = prompt.find("Question: "); at != std::string::npos; at = prompt.find("Question: ", at + 1))
    ++questions;
  EXPECT_EQ(questions, 6u);
  EXPECT_THAT(script_.samplings[0].stop, ElementsAre("Question:"));
  EXPECT_EQ(script_.samplings[0].max_tokens, 512);
}

TEST_F(EvalTest, Gsm8kDataErrors) {
  EXPECT_EQ(run({"eval", "gsm8k", "-m", "M", "--data", path("none")}).code, 3);
  write_file(path("test.jsonl"), "{\"question\":\"q\",\"answer\":\"1\"}\n{\"question\":1}\n");
  write_file(path("fewshot.jsonl"), "{\"question\":\"q\",\"answer\":\"1\"}\n");
  CliResult r = run({"eval", "gsm8k", "-m", "M", "--data", folder_.string(), "--shots", "1"});
  EXPECT_EQ(r.code, 3);
  EXPECT_THAT(r.err, HasSubstr("test.jsonl line 2: \"question\" must be a string"));
  write_file(path("test.jsonl"), "{\"question\":\"q\",\"answer\":\"1\"}\n");
  r = run({"eval", "gsm8k", "-m", "M", "--data", folder_.string()});
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("holds 1; nearest: 1"));
}

TEST_F(EvalTest, FailedQuestionsAreToldAndCountAsWrong) {
  script_.context_length = 10;
  const CliResult r = run({"eval", "gsm8k", "-m", "M", "--limit", "2", "--json"});
  EXPECT_EQ(r.code, 1);
  EXPECT_EQ(json_at(r.out, "/failed"), "2");
  EXPECT_EQ(json_at(r.out, "/total"), "2");
  EXPECT_EQ(json_at(r.out, "/correct"), "0");
  EXPECT_THAT(r.err, HasSubstr("2 failed: over the context"));
}

class RecallTest : public EvalTest {
 protected:
  RecallTest() {
    write_file(
        path("recall.json"),
        R"({"templates":[{"fact":"The code of {name} is {value}.","question":"What is the code of {name}?",)"
        R"("answer":"The code of {name} is {value}."}],"names":["Ann","Bob","Cy","Dee"],)"
        R"("values":["red","blue","green","gold"],"prompt":"{document}\n\nQuestion: {question}",)"
        R"("facts_per_document":3})");
    std::string filler;
    for (int i = 0; i < 50; ++i) filler += "One sentence. Another one! A third? And a fourth one here.\n\n";
    write_file(path("filler.txt"), filler);
  }
  RecallData data() const { return load_recall(folder_); }
};

TEST_F(RecallTest, DocumentsHoldTheFactsAndFitTheLength) {
  FakeEngine engine(script_, {});
  const RecallData d = data();
  for (uint64_t index = 0; index < 20; ++index) {
    const EvalQuestion question = make_recall_question(d, engine, 1000, 1, index);
    const std::string prompt = prompt_text(question.request.prompt);
    EXPECT_LE(prompt.size(), 1000u);
    EXPECT_GT(prompt.size(), 900u);
    size_t facts = 0;
    for (size_t at = prompt.find("The code of "); at != std::string::npos;
         at = prompt.find("The code of ", at + 1))
      ++facts;
    EXPECT_EQ(facts, 3u);
    EXPECT_THAT(prompt, HasSubstr(question.expected)) << "the fact asked for is in the document";
    // A fact is never a paragraph's first sentence.
    EXPECT_EQ(prompt.find("\n\nThe code of "), std::string::npos);
    const std::string name = question.expected.substr(12, question.expected.find(" is ") - 12);
    EXPECT_TRUE(prompt.ends_with("\n\nQuestion: What is the code of " + name + "?"));
  }
}

TEST_F(RecallTest, DocumentsDependOnSeedAndIndexAlone) {
  FakeEngine engine(script_, {});
  const RecallData d = data();
  const auto prompt = [&](uint64_t seed, uint64_t index) {
    return prompt_text(make_recall_question(d, engine, 800, seed, index).request.prompt);
  };
  EXPECT_EQ(prompt(1, 2), prompt(1, 2));
  EXPECT_NE(prompt(1, 2), prompt(1, 3));
  EXPECT_NE(prompt(1, 2), prompt(2, 2));
}

TEST_F(RecallTest, TooShortOrTooLong) {
  script_.context_length = 5000;
  const CliResult shorter = run({"eval", "recall", "-m", folder_.string(), "--lengths", "50"});
  EXPECT_EQ(shorter.code, 2);
  EXPECT_THAT(shorter.err, HasSubstr("--lengths 50: too short for 3 facts; nearest: "));
  const CliResult longer = run({"eval", "recall", "-m", folder_.string(), "--lengths", "6000"});
  EXPECT_EQ(longer.code, 2);
  EXPECT_THAT(longer.err, HasSubstr("nearest: 5000"));
}

TEST_F(RecallTest, ScoresByTheWholeAnswer) {
  // Right for Ann only: reads the fact out of the document.
  script_.reply = [](const std::string& prompt) {
    const std::string name = prompt.substr(prompt.rfind(" of ") + 4);
    const size_t fact = prompt.find("The code of " + name.substr(0, name.size() - 1) + " is ");
    const std::string answer = prompt.substr(fact, prompt.find('.', fact) + 1 - fact);
    return name == "Ann?" ? "  " + answer + "\n" : answer + " I think.";
  };
  const CliResult r =
      run({"eval", "recall", "-m", folder_.string(), "--lengths", "600,900", "--limit", "10", "--json"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(json_at(r.out, "/total"), "20");
  int64_t asked_ann = 0;
  for (const Prompt& prompt : script_.prompts) asked_ann += prompt_text(prompt).ends_with("of Ann?");
  EXPECT_GT(asked_ann, 0);
  EXPECT_LT(asked_ann, 20);
  EXPECT_EQ(json_at(r.out, "/correct"), std::to_string(asked_ann));
  EXPECT_EQ(json_at(r.out, "/lengths/1/length"), "900");
  EXPECT_THAT(r.err, HasSubstr("recall at 600 tokens: "));
}

TEST_F(RecallTest, DataErrors) {
  const auto refused = [&](const std::string& json, const std::string& message) {
    write_file(path("recall.json"), json);
    const CliResult r = run({"eval", "recall", "-m", folder_.string()});
    EXPECT_EQ(r.code, 3);
    EXPECT_THAT(r.err, HasSubstr(message));
  };
  refused("{", "recall.json: must be a JSON object");
  refused("{}", "\"templates\" must be a list");
  refused(R"({"templates":[1]})", "\"fact\" must be a string");
  const std::string start =
      R"({"templates":[{"fact":"","question":"","answer":""}],"names":["a"],"prompt":"",)";
  refused(start + R"("values":["a",1],"facts_per_document":1})", "\"values\" must be a list of strings");
  refused(start + R"("values":["a"],"facts_per_document":2})", "must be from 1 to the number of names (1)");
  std::filesystem::remove(path("recall.json"));
  EXPECT_EQ(run({"eval", "recall", "-m", folder_.string()}).code, 3);
}

TEST(Ppl, Windows) {
  EXPECT_THAT(ppl_windows(10, 4, 2),
              ElementsAre(PplWindow{0, 4, 1}, PplWindow{2, 6, 4}, PplWindow{4, 8, 6}, PplWindow{6, 10, 8}));
  EXPECT_THAT(ppl_windows(9, 4, 4), ElementsAre(PplWindow{0, 4, 1}, PplWindow{4, 8, 5}));
  EXPECT_THAT(ppl_windows(3, 4, 2), ElementsAre(PplWindow{0, 3, 1}));
  EXPECT_TRUE(ppl_windows(1, 4, 2).empty());
  EXPECT_TRUE(ppl_windows(0, 4, 2).empty());
  // Every token but the first counts once, whatever the stride below the context.
  for (int64_t stride = 1; stride < 7; ++stride) {
    std::vector<int> counted(50, 0);
    for (const PplWindow& w : ppl_windows(50, 7, stride)) {
      EXPECT_LE(w.end - w.begin, 7);
      EXPECT_GT(w.first_scored, w.begin);
      for (int64_t t = w.first_scored; t < w.end; ++t) ++counted[static_cast<size_t>(t)];
    }
    EXPECT_EQ(counted[0], 0);
    for (size_t t = 1; t < counted.size(); ++t)
      EXPECT_EQ(counted[t], 1) << "stride " << stride << " token " << t;
  }
}

TEST_F(EvalTest, PplIsTheExponentialOfTheMean) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('a' + i % 16);
  write_file(path("text.txt"), text);
  double sum = 0;
  for (size_t i = 1; i < text.size(); ++i) sum += (text[i] % 8) / 8.0;
  const double expected = std::exp(sum / 99);
  for (const char* stride : {"1", "5", "15"}) {
    const CliResult r = run({"eval", "ppl", "-m", "M", "--data", path("text.txt"), "--context", "16",
                             "--stride", stride, "--json"});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NEAR(std::stod(json_at(r.out, "/perplexity")), expected, 1e-6 * expected);
    EXPECT_EQ(json_at(r.out, "/tokens_scored"), "99");
  }
  EXPECT_EQ(script_.samplings[0].max_tokens, 0);
  const CliResult limited = run({"eval", "ppl", "-m", "M", "--data", path("text.txt"), "--context", "16",
                                 "--stride", "8", "--limit", "1", "--json"});
  EXPECT_EQ(json_at(limited.out, "/tokens_scored"), "15");
}

TEST_F(EvalTest, PplBadInput) {
  write_file(path("empty.txt"), "");
  write_file(path("one.txt"), "a");
  write_file(path("bad.txt"), "\xff");
  const auto code = [&](const char* file, std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"eval", "ppl", "-m", "M", "--data", path(file)});
    return run(flags).code;
  };
  EXPECT_EQ(code("none.txt"), 3);
  EXPECT_EQ(code("bad.txt"), 3);
  EXPECT_EQ(code("empty.txt"), 2);
  EXPECT_EQ(code("one.txt"), 2);
  write_file(path("two.txt"), "ab");
  EXPECT_EQ(code("two.txt"), 0);
  EXPECT_EQ(code("two.txt", {"--context", "1"}), 2);
  EXPECT_EQ(code("two.txt", {"--context", "99999999"}), 2);
  EXPECT_EQ(code("two.txt", {"--context", "8", "--stride", "9"}), 2);
}

TEST_F(EvalTest, Interrupt) {
  script_.steps = [](const std::string&) { return 100; };
  script_.on_step = [&](int step) { interrupted_ = step == 5; };
  const CliResult r = run({"eval", "gsm8k", "-m", "M", "--limit", "50", "--parallel", "4", "--json"});
  EXPECT_EQ(r.code, 130);
  EXPECT_EQ(json_at(r.out, "/error/code"), "\"cancelled\"");
}

}  // namespace
}  // namespace longspan::cli
