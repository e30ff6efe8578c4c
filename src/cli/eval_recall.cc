#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "cli/eval.h"

namespace longspan::cli {
namespace {

constexpr int32_t kAnswerTokens = 40;
constexpr int64_t kDocumentsPerLength = 20;

/// A fixed random sequence on every platform.
class Random {
 public:
  Random(uint64_t seed, uint64_t index) {
    std::seed_seq words{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                        static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32)};
    engine_.seed(words);
  }
  size_t below(size_t n) { return static_cast<size_t>(engine_() % n); }
  /// `count` different numbers below n, in random order.
  std::vector<size_t> sample(size_t n, size_t count) {
    std::vector<size_t> all(n);
    for (size_t i = 0; i < n; ++i) all[i] = i;
    for (size_t i = 0; i < count; ++i) std::swap(all[i], all[i + below(n - i)]);
    all.resize(count);
    return all;
  }

 private:
  std::mt19937_64 engine_;
};

struct Fact {
  std::string statement, question, answer;
};

std::string replace_all(std::string text, const std::string& what, const std::string& with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
  return text;
}

std::vector<Fact> draw_facts(const RecallData& data, Random& random) {
  const auto count = static_cast<size_t>(data.facts_per_document);
  const auto names = random.sample(data.names.size(), count);
  const auto values = random.sample(data.values.size(), count);
  std::vector<Fact> facts;
  for (size_t i = 0; i < count; ++i) {
    const RecallTemplate& form = data.templates[random.below(data.templates.size())];
    const auto fill = [&](const std::string& pattern) {
      return replace_all(replace_all(pattern, "{name}", data.names[names[i]]), "{value}",
                         data.values[values[i]]);
    };
    facts.push_back({fill(form.fact), fill(form.question), fill(form.answer)});
  }
  return facts;
}

using Paragraph = std::vector<std::string>;  // sentences

Paragraph sentences_of(const std::string& paragraph) {
  Paragraph sentences;
  size_t begin = 0;
  for (size_t i = 0; i + 1 < paragraph.size(); ++i) {
    if (paragraph[i + 1] == ' ' && (paragraph[i] == '.' || paragraph[i] == '!' || paragraph[i] == '?')) {
      sentences.push_back(paragraph.substr(begin, i + 1 - begin));
      begin = i + 2;
    }
  }
  sentences.push_back(paragraph.substr(begin));
  return sentences;
}

// The first `count` sentences of the filler from paragraph `first` on, wrapping at its end.
std::vector<Paragraph> take_sentences(const RecallData& data, size_t first, size_t count) {
  std::vector<Paragraph> document;
  for (size_t p = first; count > 0; ++p) {
    Paragraph sentences = sentences_of(data.paragraphs[p % data.paragraphs.size()]);
    sentences.resize(std::min(sentences.size(), count));
    count -= sentences.size();
    document.push_back(std::move(sentences));
  }
  return document;
}

// Puts each fact after a random sentence of a random paragraph.
std::string make_document(std::vector<Paragraph> paragraphs, const std::vector<Fact>& facts, Random random) {
  for (const Fact& fact : facts) {
    Paragraph& paragraph = paragraphs[random.below(paragraphs.size())];
    const size_t place = 1 + random.below(paragraph.size());
    paragraph.insert(paragraph.begin() + static_cast<ptrdiff_t>(place), fact.statement);
  }
  std::string document;
  for (const Paragraph& paragraph : paragraphs) {
    if (!document.empty()) document += "\n\n";
    for (size_t i = 0; i < paragraph.size(); ++i) document += (i ? " " : "") + paragraph[i];
  }
  return document;
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \n\r\t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \n\r\t") - first + 1);
}

}  // namespace

EvalQuestion make_recall_question(const RecallData& data, const Engine& engine, int64_t tokens, uint64_t seed,
                                  uint64_t index, const std::string& flag) {
  if (const int64_t longest = engine.info().context_length; tokens > longest) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{} {}: over the model's context; nearest: {}", flag, tokens, longest));
  }
  Random random(seed, index);
  const std::vector<Fact> facts = draw_facts(data, random);
  const Fact& asked = facts[random.below(facts.size())];
  const size_t first = random.below(data.paragraphs.size());
  const auto prompt_of = [&](size_t sentences) {
    const std::string document = make_document(take_sentences(data, first, sentences), facts, random);
    return replace_all(replace_all(data.prompt, "{question}", asked.question), "{document}", document);
  };
  const auto tokens_of = [&](const std::string& prompt) {
    return static_cast<int64_t>(engine.tokenize(std::vector<Message>{{"user", prompt}}).size());
  };

  const int64_t least = tokens_of(prompt_of(1));
  if (least > tokens) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{} {}: too short for {} facts; nearest: {}", flag, tokens, facts.size(), least));
  }
  // The most sentences that fit: token counts grow with sentences.
  size_t fits = 1, too_many = 2;
  while (tokens_of(prompt_of(too_many)) <= tokens) {
    fits = too_many;
    too_many *= 2;
  }
  while (too_many - fits > 1) {
    const size_t middle = fits + (too_many - fits) / 2;
    (tokens_of(prompt_of(middle)) <= tokens ? fits : too_many) = middle;
  }

  EvalQuestion question;
  question.request.prompt = std::vector<Message>{{"user", prompt_of(fits)}};
  question.request.sampling.max_tokens = kAnswerTokens;
  question.expected = asked.answer;
  return question;
}

int64_t eval_recall(const EvalRun& run, JsonObject& report) {
  const RecallData data = load_recall(run.options.data.empty() ? run.common.engine.model : run.options.data);
  const int64_t count = run.options.limit > 0 ? run.options.limit : kDocumentsPerLength;
  EvalScore overall;
  std::vector<std::string> rows;
  for (const int64_t length : run.options.lengths) {
    const auto make = [&](size_t i) {
      EvalQuestion question = make_recall_question(data, run.engine, length, run.options.seed, i);
      if (run.options.max_tokens > 0) {
        question.request.sampling.max_tokens = static_cast<int32_t>(run.options.max_tokens);
      }
      return question;
    };
    const auto is_right = [](const std::string& answer, const std::string& expected) {
      return trimmed(answer) == trimmed(expected);
    };
    const EvalScore score =
        ask_questions(run, fmt::format("recall {}", length), static_cast<size_t>(count), make, is_right);
    run.people() << fmt::format("recall at {} tokens: {} of {} right, exact match {:.4f}", length,
                                score.correct, score.total, score.exact_match())
                 << (score.failed ? fmt::format("; {} failed: {}", score.failed, score.failure) : "")
                 << std::endl;
    overall.total += score.total;
    overall.correct += score.correct;
    overall.failed += score.failed;
    rows.push_back(JsonObject()
                       .set("length", length)
                       .set("total", score.total)
                       .set("correct", score.correct)
                       .set("exact_match", score.exact_match())
                       .str());
  }
  run.people() << fmt::format("recall: {} of {} right, exact match {:.4f}", overall.correct, overall.total,
                              overall.exact_match())
               << std::endl;
  report.set_json("lengths", json_array(rows))
      .set("total", overall.total)
      .set("correct", overall.correct)
      .set("exact_match", overall.exact_match());
  return overall.failed;
}

}  // namespace longspan::cli
