#include "server/think_splitter.h"

#include <algorithm>
#include <utility>

namespace longspan::server {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

void drop_newlines_before(std::string& text) {
  text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
}

// Length of the longest end of `text` that may still become newlines and then the closing tag.
size_t uncertain_end(std::string_view text) {
  size_t tag = std::min(text.size(), kClose.size() - 1);
  while (tag > 0 && !text.ends_with(kClose.substr(0, tag))) --tag;
  size_t begin = text.size() - tag;
  while (begin > 0 && text[begin - 1] == '\n') --begin;
  return text.size() - begin;
}

}  // namespace

ThinkSplitter::Parts ThinkSplitter::push(std::string_view piece) {
  held_ += piece;
  Parts parts;
  if (state_ == State::kStart) take_start(parts);
  if (state_ == State::kThinking) take_thoughts(parts);
  if (state_ == State::kAnswer) take_answer(parts);
  return parts;
}

void ThinkSplitter::take_start(Parts&) {
  const size_t first = held_.find_first_not_of(" \n\r\t");
  const std::string_view text = std::string_view(held_).substr(std::min(first, held_.size()));
  if (text.starts_with(kOpen)) {
    held_.erase(0, first + kOpen.size());
    state_ = State::kThinking;
  } else if (!kOpen.starts_with(text)) {
    at_begin_ = false;
    state_ = State::kAnswer;
  }
}

void ThinkSplitter::take_thoughts(Parts& parts) {
  if (at_begin_) drop_newlines_before(held_);
  const size_t close = held_.find(kClose);
  if (close != std::string::npos) {
    parts.reasoning = held_.substr(0, close);
    parts.reasoning.resize(parts.reasoning.find_last_not_of('\n') + 1);
    held_.erase(0, close + kClose.size());
    at_begin_ = true;
    state_ = State::kAnswer;
    return;
  }
  const size_t certain = held_.size() - uncertain_end(held_);
  parts.reasoning = held_.substr(0, certain);
  held_.erase(0, certain);
  at_begin_ = at_begin_ && parts.reasoning.empty();
}

void ThinkSplitter::take_answer(Parts& parts) {
  if (at_begin_) drop_newlines_before(held_);
  parts.content = std::exchange(held_, "");
  at_begin_ = at_begin_ && parts.content.empty();
}

ThinkSplitter::Parts ThinkSplitter::finish() {
  std::string rest = std::exchange(held_, "");
  if (state_ == State::kThinking) return {std::move(rest), ""};
  return {"", std::move(rest)};
}

}  // namespace longspan::server
