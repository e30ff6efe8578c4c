#pragma once

#include <source_location>
#include <string_view>

namespace longspan {

[[noreturn]] void check_failed(std::string_view what, std::source_location where);

/// Broken invariants only, never user errors: throws Error(kInternal) with file and line.
inline void check(bool ok, std::string_view what,
                  std::source_location where = std::source_location::current()) {
  if (!ok) [[unlikely]]
    check_failed(what, where);
}

}  // namespace longspan
