#include "text/jinja_text.h"

#include <algorithm>

namespace longspan {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t hit = 0; (hit = text.find(from, at)) != text.npos; at = hit + from.size()) {
    out.append(text, at, hit - at).append(to);
  }
  text = out.append(text, at);
}

void append_literal(std::string& out, std::string_view value) {
  out += '\'';
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\' || c == '\'') {
      (out += '\\') += c;
    } else {
      out += c;
    }
  }
  out += '\'';
}

// Text up to the closing `quote`, escapes resolved.
JinjaLiteral read_literal(std::string_view text, size_t at, char quote) {
  JinjaLiteral literal{"", text.npos};
  for (; at < text.size(); ++at) {
    char c = text[at];
    if (c == quote) {
      literal.end = at + 1;
      break;
    }
    if (c == '\\' && at + 1 < text.size()) {
      c = text[++at];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
      if (c == 'r') c = '\r';
    }
    literal.value += c;
  }
  return literal;
}

class Canonicalizer {
 public:
  explicit Canonicalizer(std::string_view text) : text_(text) {
    if (text_.ends_with('\n')) text_.remove_suffix(1);
  }

  std::string run() {
    while (at_ < text_.size()) {
      size_t open = text_.find('{', at_);
      while (open != text_.npos &&
             (open + 1 == text_.size() ||
              std::string_view("{%#").find(text_[open + 1]) == std::string_view::npos)) {
        open = text_.find('{', open + 1);
      }
      plain_text(text_.substr(at_, open == text_.npos ? open : open - at_), open);
      if (open == text_.npos) break;
      tag(open);
    }
    replace_all(out_, "'+'", "");
    replace_all(out_, "['role']", ".role");
    replace_all(out_, "['content']", ".content");
    return std::move(out_);
  }

 private:
  void plain_text(std::string_view text, size_t next_tag) {
    bool line_start = at_ == 0;
    if (trim_next_) {
      const size_t first = text.find_first_not_of(kSpace);
      text.remove_prefix(first == text.npos ? text.size() : first);
    } else if (after_block_ && text.starts_with('\n')) {
      text.remove_prefix(1);
      line_start = true;
    }
    if (next_tag != text_.npos) {
      const char mark = next_tag + 2 < text_.size() ? text_[next_tag + 2] : ' ';
      if (mark == '-') {
        text = text.substr(0, text.find_last_not_of(kSpace) + 1);
      } else if (mark != '+' && text_[next_tag + 1] != '{') {
        const size_t last = text.find_last_not_of(" \t");
        if (last == text.npos ? line_start : text[last] == '\n') text = text.substr(0, last + 1);
      }
    }
    if (text.empty()) return;
    out_ += "{{#";
    append_literal(out_, text);
    out_ += "}}";
  }

  // The tag that begins at `open`; moves behind it.
  void tag(size_t open) {
    const char kind = text_[open + 1];
    at_ = open + 2;
    if (kind == '#') {
      const size_t close = text_.find("#}", at_);
      at_ = close == text_.npos ? text_.size() : close + 2;
      trim_next_ = close != text_.npos && text_[close - 1] == '-';
      after_block_ = true;
      return;
    }
    const std::string_view closing = kind == '{' ? "}}" : "%}";
    if (at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+')) ++at_;
    (out_ += '{') += kind;
    int braces = 0;  // a dict's } may stand right before the closing mark
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (braces == 0 && text_.substr(at_).starts_with(closing)) break;
      if (braces == 0 && c == '-' && text_.substr(at_ + 1).starts_with(closing)) break;
      if (c == '\'' || c == '"') {
        const JinjaLiteral literal = read_literal(text_, at_ + 1, c);
        append_literal(out_, literal.value);
        at_ = literal.end == text_.npos ? text_.size() : literal.end;
        continue;
      }
      if (c == '{') ++braces;
      if (c == '}') --braces;
      if (kSpace.find(c) == kSpace.npos) out_ += c;
      ++at_;
    }
    trim_next_ = at_ < text_.size() && text_[at_] == '-';
    at_ = std::min(at_ + (trim_next_ ? 3 : 2), text_.size());
    after_block_ = kind == '%';
    out_ += closing;
  }

  std::string_view text_;
  size_t at_ = 0;
  bool trim_next_ = false;    // the tag before ended in -
  bool after_block_ = false;  // the tag before was a {% %} or a comment
  std::string out_;
};

}  // namespace

std::string canonical_jinja(std::string_view text) {
  return Canonicalizer(text).run();
}

JinjaLiteral read_jinja_literal(std::string_view canonical, size_t at) {
  return read_literal(canonical, at, '\'');
}

}  // namespace longspan
