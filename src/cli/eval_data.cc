#include "cli/eval_data.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/input_file.h"

namespace longspan::cli {
namespace {

using nlohmann::json;

std::string read_file(const std::filesystem::path& path) {
  return InputFile(path.string(), -1).read_all();
}

[[noreturn]] void malformed(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kUnreadable, fmt::format("{}: {}", where, what));
}

json object_of(const std::string& text, const std::string& where) {
  json value = json::parse(text, nullptr, false);
  if (!value.is_object()) malformed(where, "must be a JSON object");
  return value;
}

std::string string_at(const json& object, const char* key, const std::string& where) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_string()) {
    malformed(where, fmt::format("\"{}\" must be a string", key));
  }
  return object[key].get<std::string>();
}

std::vector<std::string> strings_at(const json& object, const char* key, const std::string& where) {
  std::vector<std::string> strings;
  if (object.contains(key) && object[key].is_array()) {
    for (const json& item : object[key]) {
      if (item.is_string()) strings.push_back(item.get<std::string>());
    }
    if (strings.size() == object[key].size()) return strings;
  }
  malformed(where, fmt::format("\"{}\" must be a list of strings", key));
}

std::vector<std::string> paragraphs_of(const std::string& text) {
  std::vector<std::string> paragraphs;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("\n\n", begin), text.size());
    std::string paragraph = text.substr(begin, end - begin);
    const size_t first = paragraph.find_first_not_of(" \n\r\t");
    if (first != std::string::npos) {
      paragraphs.push_back(paragraph.substr(first, paragraph.find_last_not_of(" \n\r\t") - first + 1));
    }
    begin = end + 2;
  }
  return paragraphs;
}

}  // namespace

std::vector<GsmProblem> load_gsm8k(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  std::vector<GsmProblem> problems;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \r\t") == std::string::npos) continue;
    const std::string where = fmt::format("{} line {}", file.string(), number);
    const json object = object_of(line, where);
    problems.push_back({string_at(object, "question", where), string_at(object, "answer", where)});
  }
  if (problems.empty()) malformed(file.string(), "holds no problems");
  return problems;
}

RecallData load_recall(const std::filesystem::path& folder) {
  const std::string where = (folder / "recall.json").string();
  const json object = object_of(read_file(where), where);
  RecallData data;
  if (!object.contains("templates") || !object["templates"].is_array() || object["templates"].empty()) {
    malformed(where, "\"templates\" must be a list of {fact, question, answer}");
  }
  for (const json& item : object["templates"]) {
    data.templates.push_back({string_at(item, "fact", where), string_at(item, "question", where),
                              string_at(item, "answer", where)});
  }
  data.names = strings_at(object, "names", where);
  data.values = strings_at(object, "values", where);
  data.prompt = string_at(object, "prompt", where);
  if (!object.contains("facts_per_document") || !object["facts_per_document"].is_number_unsigned()) {
    malformed(where, "\"facts_per_document\" must be a whole number");
  }
  const auto facts = object["facts_per_document"].get<uint64_t>();
  if (facts < 1 || facts > data.names.size() || facts > data.values.size()) {
    malformed(where,
              fmt::format(
                  "\"facts_per_document\" is {}: must be from 1 to the number of names ({}) and values ({})",
                  facts, data.names.size(), data.values.size()));
  }
  data.facts_per_document = static_cast<int>(facts);
  data.paragraphs = paragraphs_of(read_file(folder / "filler.txt"));
  if (data.paragraphs.empty()) malformed((folder / "filler.txt").string(), "holds no text");
  return data;
}

std::filesystem::path find_eval_folder(const std::string& task, const std::filesystem::path& executable) {
  const auto above = executable.parent_path().parent_path();
  const std::filesystem::path places[] = {above / "share" / "longspan" / "eval" / task, above / "eval" / task,
                                          std::filesystem::path("eval") / task};
  std::string tried;
  for (const auto& place : places) {
    if (std::filesystem::is_directory(place)) return place;
    tried += (tried.empty() ? "" : ", ") + place.string();
  }
  throw Error(ErrorCode::kUnreadable,
              fmt::format("no {} data in {}; give its folder with --data", task, tried));
}

}  // namespace longspan::cli
