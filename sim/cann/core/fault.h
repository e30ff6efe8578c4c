#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace cann_sim {

/// A broken rule: CANN's code for it, and the text that aclGetRecentErrMsg will give.
struct Fault {
  int code = 0;
  std::string text;
};

template <class... Args>
[[noreturn]] void fail(int code, fmt::format_string<Args...> format, Args&&... args) {
  throw Fault{code, fmt::format(format, std::forward<Args>(args)...)};
}

/// Kept per thread until it is read.
void remember_error(const std::string& text);
/// Null if nothing is pending; valid until the thread's next call.
const char* take_error();

/// What a C entry point does: runs `body`, turns a Fault into its code.
template <class Body>
int guarded(Body&& body) {
  try {
    body();
    return 0;
  } catch (const Fault& fault) {
    remember_error(fault.text);
    return fault.code;
  }
}

}  // namespace cann_sim
