#include "base/check.h"

#include <fmt/format.h>
#include <longspan/error.h>

namespace longspan {

void check_failed(std::string_view what, std::source_location where) {
  throw Error(ErrorCode::kInternal,
              fmt::format("internal error at {}:{}: {}", where.file_name(), where.line(), what));
}

}  // namespace longspan
