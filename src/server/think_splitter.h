#pragma once

#include <string>
#include <string_view>

namespace longspan::server {

/// Parts a chat's answer into its <think> block and the rest, piece by piece, without the tags and the
/// newlines around them. Text without a block is all content.
class ThinkSplitter {
 public:
  /// `inside`: the prompt has opened the block already.
  explicit ThinkSplitter(bool inside) : state_(inside ? State::kThinking : State::kStart) {}

  struct Parts {
    std::string reasoning, content;
  };
  /// What is certain now.
  Parts push(std::string_view piece);
  /// What was held back, once no more text will come.
  Parts finish();

 private:
  enum class State { kStart, kThinking, kAnswer };

  void take_start(Parts& parts);
  void take_thoughts(Parts& parts);
  void take_answer(Parts& parts);

  State state_;
  bool at_begin_ = true;  // of thoughts, or of an answer behind them: newlines are left out
  std::string held_;
};

}  // namespace longspan::server
