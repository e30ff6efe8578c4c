#pragma once

#include <longspan/engine.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/eval_data.h"
#include "cli/json_out.h"
#include "cli/options.h"

namespace longspan::cli {

/// A question with one right answer.
struct EvalQuestion {
  Request request;  // prompt and sampling
  std::string expected;
};

struct EvalScore {
  int64_t total = 0;
  int64_t correct = 0;
  int64_t failed = 0;   // of total: no answer at all
  std::string failure;  // message of the last failed one
  double exact_match() const {
    return total > 0 ? static_cast<double>(correct) / static_cast<double>(total) : 0;
  }
};

/// Everything a task works with.
struct EvalRun {
  const CommonOptions& common;
  const EvalOptions& options;
  Context& context;
  Engine& engine;
  size_t parallel;  // requests in flight

  /// Where the score is told in words: standard output, unless that holds a JSON object.
  std::ostream& people() const { return common.json ? context.err : context.out; }
};

/// Asks `count` questions, made one by one as there is room, and counts right answers. `label` starts
/// progress lines.
EvalScore ask_questions(
    const EvalRun& run, const std::string& label, size_t count,
    const std::function<EvalQuestion(size_t)>& make,
    const std::function<bool(const std::string& answer, const std::string& expected)>& is_right);

/// Each runs a task, tells its result in words and adds it to `report`. Returns how many requests
/// failed.
int64_t eval_gsm8k(const EvalRun& run, JsonObject& report);
int64_t eval_recall(const EvalRun& run, JsonObject& report);
int64_t eval_ppl(const EvalRun& run, JsonObject& report);

/// GSM8K's problems, with worked examples before each.
struct Gsm8kTask {
  std::string examples;
  std::vector<GsmProblem> problems;
  std::string prompt(size_t i) const;
};

/// `data`: folder, "" for the one that comes with the program. Throws Error: kUsage for more shots than it
/// has examples, kUnreadable.
Gsm8kTask load_gsm8k_task(const std::string& data, int64_t shots, const std::filesystem::path& executable);

/// The last number of a text as GSM8K is scored: without "$", "," and a closing ".", and with equal values
/// spelled the same ("18.00" -> "18"). Empty if there is none.
std::optional<std::string> last_number(const std::string& text);

/// A recall document's prompt and answer; the same for the same (seed, index). Prompts are as long as whole
/// sentences make them without passing `tokens`. Throws Error(kUsage) if `tokens` is too short for the facts
/// or over the context, naming `flag`.
EvalQuestion make_recall_question(const RecallData& data, const Engine& engine, int64_t tokens, uint64_t seed,
                                  uint64_t index, const std::string& flag = "--lengths");

/// What one window of a perplexity run covers: tokens [begin, end), of which [first_scored, end) count.
struct PplWindow {
  int64_t begin = 0, end = 0, first_scored = 0;
  bool operator==(const PplWindow&) const = default;
};

/// Windows of `context` tokens, `stride` (1 .. context) apart, over `tokens` tokens; each token but the first
/// counts once, with as much context as its first window gives. At stride = context the first token of each
/// window has none and does not count.
std::vector<PplWindow> ppl_windows(int64_t tokens, int64_t context, int64_t stride);

}  // namespace longspan::cli
