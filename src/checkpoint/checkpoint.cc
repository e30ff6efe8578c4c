#include "checkpoint/checkpoint.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>

#include "base/hash.h"
#include "base/nearest.h"
#include "checkpoint/json_text.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/safetensors.h"

namespace longspan {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr size_t kFingerprintBytes = 4096;  // of each end of a file's data

[[noreturn]] void fail(ErrorCode code, const std::string& message) {
  throw Error(code, message);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// Tensor name -> file name, as the index says.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const json root = parse_json(read_text_file(path, kMaxIndexBytes), path.string());
  const auto bad = [&](const std::string& rule) {
    fail(ErrorCode::kUnreadable, fmt::format("{}: {}", path.string(), rule));
  };
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    bad("weight_map must map tensor names to file names");
  }
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : root["weight_map"].items()) {
    if (!file.is_string())
      bad(fmt::format("the file of {} must be a string, it is {}", in_quotes(name), shown(file)));
    const auto& text = file.get_ref<const std::string&>();
    if (text.empty() || text == "." || text == ".." || text.find('/') != text.npos ||
        text.find('\0') != text.npos) {
      bad(fmt::format("the file of {} must be a name within the folder, it is {}", in_quotes(name),
                      in_quotes(text)));
    }
    files.emplace(name, text);
  }
  if (files.empty()) bad("weight_map names no tensor");
  return files;
}

}  // namespace

struct Checkpoint::Impl {
  struct Tensor {
    TensorEntry entry;
    size_t file;
  };

  // A tensor's first byte, on its dtype's alignment. Writers that do not pad their header leave all tensors
  // of a file misaligned; those are copied once, on first use.
  const void* aligned(const std::string& name, const Tensor& tensor) {
    const std::byte* data = files[tensor.file].bytes().data() + tensor.entry.begin;
    if (reinterpret_cast<uintptr_t>(data) % size_of(tensor.entry.dtype) == 0) return data;
    const std::lock_guard lock(copies_mutex);
    auto [copy, is_new] = copies.try_emplace(name);
    if (is_new) copy->second.assign(data, data + (tensor.entry.end - tensor.entry.begin));
    return copy->second.data();
  }

  void add_file(const fs::path& path, const std::map<std::string, std::string>* index) {
    MappedFile& file = files.emplace_back(path);
    paths.push_back(path);
    SafetensorsHeader header =
        parse_safetensors_header(file.bytes(), static_cast<int64_t>(file.bytes().size()), path.string());
    add_to_fingerprint(path, file.bytes(), static_cast<size_t>(header.data_begin));
    for (TensorEntry& entry : header.tensors) {
      if (index) {  // a shard may hold more than the index names; only what it names counts
        const auto named = index->find(entry.name);
        if (named == index->end() || named->second != path.filename()) continue;
      }
      bytes += entry.end - entry.begin;
      std::string name = entry.name;
      tensors.emplace(std::move(name), Tensor{std::move(entry), files.size() - 1});
    }
  }

  void add_to_fingerprint(const fs::path& path, std::span<const std::byte> file, size_t data_begin) {
    const auto add = [&](size_t begin, size_t end) {
      const auto part = file.subspan(begin, end - begin);
      fingerprint = fnv1a64({reinterpret_cast<const char*>(part.data()), part.size()}, fingerprint);
    };
    fingerprint = fnv1a64(fmt::format("{} {}", path.filename().string(), file.size()), fingerprint);
    const size_t end = std::min(file.size(), data_begin + kFingerprintBytes);
    add(0, end);
    add(std::max(end, file.size() - std::min(file.size(), kFingerprintBytes)), file.size());
  }

  const Tensor& find(const std::string& name) const {
    const auto found = tensors.find(name);
    if (found != tensors.end()) return found->second;
    std::vector<std::string> all;
    for (const auto& [other, tensor] : tensors) all.push_back(other);
    std::sort(all.begin(), all.end());
    const std::string near = nearest(name, all);
    fail(ErrorCode::kUnreadable,
         fmt::format("{}: no tensor {} among {}{}", paths.front().parent_path().string(), in_quotes(name),
                     tensors.size(),
                     near.empty() ? "" : fmt::format("; the nearest name is {}", in_quotes(near))));
  }

  std::vector<MappedFile> files;
  std::vector<fs::path> paths;  // of files
  std::unordered_map<std::string, Tensor> tensors;
  int64_t bytes = 0;
  uint64_t fingerprint = fnv1a64("");
  std::mutex copies_mutex;
  std::unordered_map<std::string, std::vector<std::byte>> copies;  // by tensor name
};

Checkpoint::Checkpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const fs::path& folder) {
  auto impl = std::make_unique<Impl>();
  require_model_folder(folder);
  if (is_there(folder / kSingleFile)) {
    impl->add_file(folder / kSingleFile, nullptr);
    return Checkpoint(std::move(impl));
  }
  if (!is_there(folder / kIndexFile)) {
    fail_incomplete_folder(folder, fmt::format("{} or {}", kSingleFile, kIndexFile));
  }

  const std::map<std::string, std::string> index = read_index(folder / kIndexFile);
  std::vector<std::string> shards;
  for (const auto& [name, file] : index) shards.push_back(file);
  std::sort(shards.begin(), shards.end());
  shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
  for (const std::string& shard : shards) {
    if (!is_there(folder / shard)) {
      const auto needs = [&](const auto& entry) { return entry.second == shard; };
      fail(ErrorCode::kUnreadable,
           fmt::format("{} is missing; {} says it holds {} tensors, e.g. {}", (folder / shard).string(),
                       kIndexFile, std::count_if(index.begin(), index.end(), needs),
                       in_quotes(std::find_if(index.begin(), index.end(), needs)->first)));
    }
    impl->add_file(folder / shard, &index);
  }
  for (const auto& [name, file] : index) {
    if (!impl->tensors.contains(name)) {
      fail(ErrorCode::kUnreadable, fmt::format("{} says that {} holds tensor {}, but it does not",
                                               (folder / kIndexFile).string(), file, in_quotes(name)));
    }
  }
  return Checkpoint(std::move(impl));
}

bool Checkpoint::has(const std::string& name) const {
  return impl_->tensors.contains(name);
}

WeightView Checkpoint::view(const std::string& name, int64_t rows, int64_t cols) const {
  const Impl::Tensor& tensor = impl_->find(name);
  const std::vector<int64_t>& shape = tensor.entry.shape;
  const std::array<int64_t, 2> wanted = {rows, cols};
  const bool matrix = std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end());
  const bool vector = rows == 1 && shape.size() == 1 && shape[0] == cols;
  if (!matrix && !vector) {
    fail(ErrorCode::kUnreadable,
         fmt::format(
             "{}: tensor {} has shape {}, config.json asks for {}", impl_->paths[tensor.file].string(),
             in_quotes(name), shape_text(shape),
             rows == 1 && shape.size() == 1 ? shape_text(std::span(wanted).subspan(1)) : shape_text(wanted)));
  }
  return {impl_->aligned(name, tensor), tensor.entry.dtype, rows, cols, cols};
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : impl_->tensors) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

int64_t Checkpoint::bytes() const {
  return impl_->bytes;
}

uint64_t Checkpoint::fingerprint() const {
  return impl_->fingerprint;
}

DType Checkpoint::main_dtype() const {
  std::map<DType, int64_t> bytes;
  for (const auto& [name, tensor] : impl_->tensors) {
    bytes[tensor.entry.dtype] += tensor.entry.end - tensor.entry.begin;
  }
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? DType::kF32 : most->first;
}

void Checkpoint::drop_pages(const WeightView& view) const {
  if (view.rows == 0 || view.cols == 0) return;
  const int64_t elements = (view.rows - 1) * view.row_stride + view.cols;
  for (const MappedFile& file : impl_->files) {
    if (file.contains(view.data)) {
      file.drop_pages(view.data, static_cast<size_t>(elements * size_of(view.dtype)));
      return;
    }
  }
}

}  // namespace longspan
