#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cli/batch_format.h"

// Any line is read or refused with an error that names it; nothing is thrown.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const longspan::cli::BatchLine line = longspan::cli::parse_batch_line(text, 7);
  if (line.error && std::string_view(line.error->what()).substr(0, 7) != "line 7:") std::abort();
  return 0;
}
