#include "text/added_tokens.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/utf8.h"

namespace longspan {
namespace {

size_t white_space_at_start(std::string_view text) {
  size_t bytes = 0;
  while (bytes < text.size()) {
    const Utf8Char c = first_char(text.substr(bytes));
    if (!is_white_space(c.code_point)) break;
    bytes += c.bytes;
  }
  return bytes;
}

size_t white_space_at_end(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    size_t start = begin - 1;
    while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xc0) == 0x80) --start;
    if (!is_white_space(first_char(text.substr(start, begin - start)).code_point)) break;
    begin = start;
  }
  return text.size() - begin;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) {
  std::map<std::string, AddedToken> sorted;
  for (AddedToken& token : tokens) {
    std::string content = token.content;
    sorted.emplace(std::move(content), std::move(token));  // keeps the first of equal ones
  }
  for (auto& [content, token] : sorted) {
    first_byte_[static_cast<uint8_t>(content[0])] = true;
    tokens_.push_back(std::move(token));
  }
}

// Narrows the sorted contents byte by byte to those that `text` agrees with.
const AddedToken* AddedTokenFinder::longest_at(std::string_view text) const {
  const AddedToken* best = nullptr;
  auto low = tokens_.begin(), high = tokens_.end();
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte_of = [i](const AddedToken& token) {
      return i < token.content.size() ? static_cast<uint8_t>(token.content[i]) : -1;
    };
    const auto same =
        std::ranges::equal_range(low, high, static_cast<uint8_t>(text[i]), std::less<int>{}, byte_of);
    if (same.empty()) break;
    low = same.begin();
    high = same.end();
    if (low->content.size() == i + 1) best = &*low;
  }
  return best;
}

void AddedTokenFinder::split(std::string_view text,
                             const std::function<void(int32_t, std::string_view)>& piece) const {
  size_t done = 0;  // text before it has been handed out
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = nullptr;
    if (first_byte_[static_cast<uint8_t>(text[at])]) token = longest_at(text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    at += token->content.size();
    size_t end = at;
    if (token->lstrip && begin > done) begin -= white_space_at_end(text.substr(done, begin - done));
    if (token->rstrip) end += white_space_at_start(text.substr(at));
    if (begin > done) piece(-1, text.substr(done, begin - done));
    piece(token->id, text.substr(begin, end - begin));
    done = end;
  }
  if (done < text.size()) piece(-1, text.substr(done));
}

}  // namespace longspan
