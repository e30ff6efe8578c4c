#include "grammar/token_table.h"

#include <algorithm>

namespace longspan {

TokenTable::TokenTable(int32_t vocab_size, const std::function<std::string(int32_t)>& bytes_of)
    : vocab_size_(vocab_size) {
  for (int32_t id = 0; id < vocab_size; ++id) {
    std::string bytes = bytes_of(id);
    if (!bytes.empty()) tokens_.push_back({id, 0, std::move(bytes)});
  }
  std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) {
    return a.bytes < b.bytes || (a.bytes == b.bytes && a.id < b.id);
  });
  for (size_t i = 1; i < tokens_.size(); ++i) {
    const std::string& before = tokens_[i - 1].bytes;
    const std::string& bytes = tokens_[i].bytes;
    const auto end = std::mismatch(before.begin(), before.end(), bytes.begin(), bytes.end()).second;
    tokens_[i].shared = static_cast<uint32_t>(end - bytes.begin());
  }
}

std::vector<bool> TokenTable::allowed(Matcher& matcher, Matcher::Place place) const {
  std::vector<bool> all(static_cast<size_t>(vocab_size_));
  std::vector<Matcher::Place> places = {place};  // after each byte of the token at hand, as far as it goes
  for (const Token& token : tokens_) {
    // A start that the token before had and that led nowhere still leads nowhere.
    if (token.shared >= places.size()) continue;
    places.resize(token.shared + 1);
    while (places.size() <= token.bytes.size()) {
      const auto byte = static_cast<uint8_t>(token.bytes[places.size() - 1]);
      const Matcher::Place next = matcher.after(places.back(), byte);
      if (next == Matcher::kNowhere) break;
      places.push_back(next);
    }
    all[static_cast<size_t>(token.id)] = places.size() == token.bytes.size() + 1;
  }
  return all;
}

}  // namespace longspan
