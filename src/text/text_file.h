#pragma once

#include <filesystem>
#include <string>

namespace longspan {

/// The contents of a file. Throws Error(kUnreadable) with the path and the system's reason.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace longspan
