#pragma once

#include <string>
#include <string_view>

namespace longspan {

/// A Jinja template in one spelling, so that templates can be compared by text: no comments and no white
/// space outside string literals; literals in single quotes, neighbours joined by + as one; message['role']
/// as message.role (so too content); tags without their trim marks. Text outside tags that survives trimming
/// (transformers sets trim_blocks and lstrip_blocks) becomes {{#'text'}}, which Jinja itself does not allow.
std::string canonical_jinja(std::string_view text);

/// The literal text of a canonical string that begins at `at`, right after the opening quote: its value, and
/// the place after the closing quote (npos: not closed).
struct JinjaLiteral {
  std::string value;
  size_t end;
};
JinjaLiteral read_jinja_literal(std::string_view canonical, size_t at);

}  // namespace longspan
