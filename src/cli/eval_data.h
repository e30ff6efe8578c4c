#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace longspan::cli {

/// One problem of GSM8K: the answer ends in "#### NUMBER".
struct GsmProblem {
  std::string question, answer;
};

/// Reads a JSON Lines file of {question, answer}. Throws Error(kUnreadable) naming file and line.
std::vector<GsmProblem> load_gsm8k(const std::filesystem::path& file);

/// A way to state a fact and to ask for it, with {name} and {value} to be filled in.
struct RecallTemplate {
  std::string fact, question, answer;
};

/// What recall documents are made of (recall.json and filler.txt).
struct RecallData {
  std::vector<RecallTemplate> templates;
  std::vector<std::string> names, values;
  std::string prompt;  // with {document} and {question}
  int facts_per_document = 0;
  std::vector<std::string> paragraphs;  // filler
};

/// Throws Error(kUnreadable): a missing or malformed file, or too few names or values for a document.
RecallData load_recall(const std::filesystem::path& folder);

/// A folder of evaluation data that comes with the program: beside an installed or a built executable, or
/// under the current folder. Throws Error(kUnreadable) naming the places that were looked at.
std::filesystem::path find_eval_folder(const std::string& task, const std::filesystem::path& executable);

}  // namespace longspan::cli
