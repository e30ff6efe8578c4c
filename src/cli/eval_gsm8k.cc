#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "cli/eval.h"

namespace longspan::cli {
namespace {

constexpr int32_t kMaxTokens = 512;

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// "007.50" -> "7.5", "-0" -> "0": one spelling per value, without rounding long numbers.
std::string canonical(std::string number) {
  const bool negative = number.starts_with('-');
  if (negative) number.erase(0, 1);
  if (number.find('.') != std::string::npos) {
    number.erase(number.find_last_not_of('0') + 1);
    if (number.ends_with('.')) number.pop_back();
  }
  number.erase(0, std::min(number.find_first_not_of('0'), number.size()));
  if (number.empty() || number.starts_with('.')) number.insert(0, "0");
  return negative && number != "0" ? "-" + number : number;
}

std::string worked_example(const GsmProblem& problem) {
  return fmt::format("Question: {}\nAnswer: {}\n\n", problem.question, problem.answer);
}

}  // namespace

std::optional<std::string> last_number(const std::string& text) {
  std::string plain;
  for (const char c : text) {
    if (c != ',' && c != '$') plain += c;
  }
  const auto last = std::find_if(plain.rbegin(), plain.rend(), is_digit);
  if (last == plain.rend()) return std::nullopt;
  const size_t end = static_cast<size_t>(plain.rend() - last);
  size_t begin = end;
  while (begin > 0 && is_digit(plain[begin - 1])) --begin;
  if (begin > 0 && plain[begin - 1] == '.') {
    // Digits after a point: ".5" and "3.5" alike; of "1.2.3" the last pair.
    --begin;
    while (begin > 0 && is_digit(plain[begin - 1])) --begin;
  }
  // A minus sign, unless it joins two numbers ("5-3" ends in 3).
  if (begin > 0 && plain[begin - 1] == '-' && (begin == 1 || !is_digit(plain[begin - 2]))) --begin;
  return canonical(plain.substr(begin, end - begin));
}

std::string Gsm8kTask::prompt(size_t i) const {
  return fmt::format("{}Question: {}\nAnswer:", examples, problems[i].question);
}

Gsm8kTask load_gsm8k_task(const std::string& data, int64_t shots, const std::filesystem::path& executable) {
  const std::filesystem::path folder =
      data.empty() ? find_eval_folder("gsm8k", executable) : std::filesystem::path(data);
  Gsm8kTask task;
  task.problems = load_gsm8k(folder / "test.jsonl");
  if (shots == 0) return task;
  const std::vector<GsmProblem> fewshot = load_gsm8k(folder / "fewshot.jsonl");
  if (shots > static_cast<int64_t>(fewshot.size())) {
    throw Error(ErrorCode::kUsage,
                fmt::format("--shots {}: {} holds {}; nearest: {}", shots,
                            (folder / "fewshot.jsonl").string(), fewshot.size(), fewshot.size()));
  }
  for (int64_t i = 0; i < shots; ++i) task.examples += worked_example(fewshot[static_cast<size_t>(i)]);
  return task;
}

int64_t eval_gsm8k(const EvalRun& run, JsonObject& report) {
  const Gsm8kTask task = load_gsm8k_task(run.options.data, run.options.shots, run.context.executable);
  size_t count = task.problems.size();
  if (run.options.limit > 0) count = std::min(count, static_cast<size_t>(run.options.limit));

  const auto make = [&](size_t i) {
    EvalQuestion question;
    question.request.prompt = task.prompt(i);
    question.request.sampling.max_tokens =
        run.options.max_tokens > 0 ? static_cast<int32_t>(run.options.max_tokens) : kMaxTokens;
    question.request.sampling.stop = {
        "Question:"};  // a model without chat training goes on with the next one
    question.expected = last_number(task.problems[i].answer).value_or("");
    return question;
  };
  const auto is_right = [](const std::string& answer, const std::string& expected) {
    return last_number(answer) == expected;
  };
  const EvalScore score = ask_questions(run, "gsm8k", count, make, is_right);
  run.people() << fmt::format("gsm8k: {} of {} right, exact match {:.4f}, {}-shot", score.correct,
                              score.total, score.exact_match(), run.options.shots)
               << (score.failed ? fmt::format("; {} failed: {}", score.failed, score.failure) : "")
               << std::endl;
  report.set("shots", run.options.shots)
      .set("total", score.total)
      .set("correct", score.correct)
      .set("exact_match", score.exact_match());
  return score.failed;
}

}  // namespace longspan::cli
