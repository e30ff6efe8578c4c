#pragma once

#include <filesystem>
#include <string>

namespace longspan {

/// Throws Error unless `folder` is a directory; a GGUF file is refused by name.
void require_model_folder(const std::filesystem::path& folder);

/// Throws Error for a folder that lacks `needed`: kNotSupported if it holds a model in another form (GGUF,
/// PyTorch files), with what to do, else kUnreadable.
[[noreturn]] void fail_incomplete_folder(const std::filesystem::path& folder, const std::string& needed);

}  // namespace longspan
