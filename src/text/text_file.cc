#include "text/text_file.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

namespace longspan {

std::string read_text_file(const std::filesystem::path& path) {
  const auto fail = [&] {
    throw Error(ErrorCode::kUnreadable,
                fmt::format("can't read {}: {}", path.string(), std::generic_category().message(errno)));
  };
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) fail();
  std::string text;
  char buffer[1 << 16];
  size_t count = 0;
  while ((count = std::fread(buffer, 1, sizeof(buffer), file.get())) > 0) text.append(buffer, count);
  if (std::ferror(file.get()) != 0) fail();  // a folder opens, but does not read
  return text;
}

}  // namespace longspan
