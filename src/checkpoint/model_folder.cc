#include "checkpoint/model_folder.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <system_error>

namespace longspan {
namespace {

namespace fs = std::filesystem;

}  // namespace

void require_model_folder(const fs::path& folder) {
  if (folder.extension() == ".gguf") {
    throw Error(
        ErrorCode::kNotSupported,
        fmt::format("{} is a GGUF file; use the Hugging Face folder it was made from (config.json and "
                    "*.safetensors)",
                    folder.string()));
  }
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw Error(ErrorCode::kUnreadable,
                fmt::format("no model folder {}; a model is a Hugging Face folder with "
                            "config.json and *.safetensors",
                            folder.string()));
  }
}

void fail_incomplete_folder(const fs::path& folder, const std::string& needed) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    const fs::path extension = it->path().extension();
    if (extension == ".gguf") {
      throw Error(ErrorCode::kNotSupported,
                  fmt::format("{} holds a GGUF model ({}); use the Hugging Face folder it was made from "
                              "(config.json and *.safetensors)",
                              folder.string(), file));
    }
    if (extension == ".bin" || extension == ".pth" || extension == ".pt") {
      throw Error(
          ErrorCode::kNotSupported,
          fmt::format("{} has no {} but PyTorch weights ({}); save the model as safetensors, e.g. with "
                      "transformers' save_pretrained",
                      folder.string(), needed, file));
    }
  }
  throw Error(ErrorCode::kUnreadable,
              fmt::format("{} has no {}; a model is a Hugging Face folder with config.json and *.safetensors",
                          folder.string(), needed));
}

}  // namespace longspan
