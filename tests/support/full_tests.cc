#include "support/full_tests.h"

#include <cstdlib>
#include <string_view>

namespace longspan::testing_support {

bool full_tests() {
  const char* set = std::getenv("FULL_TESTS");
  return set && std::string_view(set) == "1";
}

}  // namespace longspan::testing_support
