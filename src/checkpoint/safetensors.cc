#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/json_text.h"

namespace longspan {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr std::string_view kMetadata = "__metadata__";

// Names the format defines and Longspan does not read.
constexpr std::array<std::string_view, 19> kOtherDTypes = {
    "BOOL", "U8",      "I8",      "U16",     "I16",         "U32",         "I32", "U64",     "I64",    "F64",
    "C64",  "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4",  "F6_E2M3", "F6_E3M2"};

class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> prefix, int64_t file_size, std::string_view what)
      : prefix_(prefix), file_size_(file_size), what_(what) {}

  SafetensorsHeader read() {
    SafetensorsHeader header;
    const std::string_view text = header_text();
    header.data_begin = kLengthBytes + static_cast<int64_t>(text.size());
    data_size_ = file_size_ - header.data_begin;

    const json root = parse_json(text, fmt::format("{}: header", what_));
    if (!root.is_object()) fail("the header must be a JSON object");
    for (const auto& [name, value] : root.items()) {
      if (name == kMetadata) {
        check_metadata(value);
      } else {
        header.tensors.push_back(tensor(name, value));
      }
    }
    std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    check_coverage(header.tensors);
    for (TensorEntry& entry : header.tensors) {
      entry.begin += header.data_begin;
      entry.end += header.data_begin;
    }
    return header;
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorCode::kUnreadable,
                fmt::format("{}: {}", what_, fmt::format(format, std::forward<Args>(args)...)));
  }

  std::string_view header_text() const {
    if (file_size_ < kLengthBytes || std::ssize(prefix_) < kLengthBytes) {
      fail(
          "a safetensors file starts with 8 bytes of header length; this one has {} bytes (an unfinished "
          "download?)",
          file_size_);
    }
    uint64_t length = 0;
    for (int i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(prefix_[i]) << (8 * i);
    if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
      fail("the header claims {} bytes; a safetensors header has at most {} (is this a safetensors file?)",
           length, kMaxSafetensorsHeader);
    }
    const auto available = std::min(file_size_, static_cast<int64_t>(prefix_.size())) - kLengthBytes;
    if (static_cast<int64_t>(length) > available) {
      fail("the header claims {} bytes, but only {} follow its length (an unfinished download?)", length,
           available);
    }
    return {reinterpret_cast<const char*>(prefix_.data()) + kLengthBytes, static_cast<size_t>(length)};
  }

  void check_metadata(const json& value) const {
    const bool strings = value.is_object() && std::all_of(value.begin(), value.end(), [](const json& entry) {
                           return entry.is_string();
                         });
    if (!strings) fail("{} must map strings to strings", kMetadata);
  }

  TensorEntry tensor(const std::string& name, const json& value) const {
    const std::string label = fmt::format("tensor {}", in_quotes(name));
    constexpr std::array<const char*, 3> kKeys = {"dtype", "shape", "data_offsets"};
    if (!value.is_object()) fail("{} must be an object with dtype, shape and data_offsets", label);
    for (const char* key : kKeys) {
      if (!value.contains(key)) fail("{} has no {}", label, key);
    }
    if (value.size() != kKeys.size()) {
      fail("{} has fields other than dtype, shape and data_offsets", label);
    }
    TensorEntry entry{.name = name, .dtype = dtype(label, value["dtype"]), .shape = {}, .begin = 0, .end = 0};

    const json& shape = value["shape"];
    if (!shape.is_array()) fail("{}: shape must be a list, it is {}", label, shown(shape));
    for (const json& extent : shape) entry.shape.push_back(size(label, "shape", extent));

    const json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) {
      fail("{}: data_offsets must be two numbers, they are {}", label, shown(offsets));
    }
    entry.begin = size(label, "data_offsets", offsets[0]);
    entry.end = size(label, "data_offsets", offsets[1]);
    if (entry.begin > entry.end || entry.end > data_size_) {
      fail("{}: data_offsets [{}, {}] do not lie within the {} bytes of data (an unfinished download?)",
           label, entry.begin, entry.end, data_size_);
    }
    const std::optional<int64_t> bytes = byte_count(entry);
    if (bytes != entry.end - entry.begin) {
      fail("{}: {} of shape {} needs {} bytes, data_offsets give {}", label, to_string(entry.dtype),
           shape_text(entry.shape), bytes ? std::to_string(*bytes) : "more than 2^63",
           entry.end - entry.begin);
    }
    return entry;
  }

  DType dtype(const std::string& label, const json& value) const {
    if (value == "F32") return DType::kF32;
    if (value == "F16") return DType::kF16;
    if (value == "BF16") return DType::kBF16;
    if (value.is_string() && std::find(kOtherDTypes.begin(), kOtherDTypes.end(),
                                       value.get_ref<const std::string&>()) != kOtherDTypes.end()) {
      throw Error(
          ErrorCode::kNotSupported,
          fmt::format("{}: {} has dtype {}; F32, F16 and BF16 are read (for a quantised model use the "
                      "original checkpoint it was made from)",
                      what_, label, value.get_ref<const std::string&>()));
    }
    fail("{}: unknown dtype {}; F32, F16 and BF16 are read", label, shown(value));
  }

  int64_t size(const std::string& label, const char* field, const json& value) const {
    if (!value.is_number_unsigned() ||
        value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail("{}: {} must hold whole numbers from 0 to 2^63 - 1, it holds {}", label, field, shown(value));
    }
    return value.get<int64_t>();
  }

  // Unset: more than an int64_t holds.
  static std::optional<int64_t> byte_count(const TensorEntry& entry) {
    if (std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end()) return 0;
    int64_t bytes = size_of(entry.dtype);
    for (const int64_t extent : entry.shape) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
    }
    return bytes;
  }

  void check_coverage(const std::vector<TensorEntry>& tensors) const {
    int64_t end = 0;
    for (const TensorEntry& entry : tensors) {
      if (entry.begin < end) {
        fail("tensor {} starts at data byte {}, inside the tensor before it, which ends at {}",
             in_quotes(entry.name), entry.begin, end);
      }
      if (entry.begin > end) {
        fail("data bytes [{}, {}) before tensor {} belong to no tensor", end, entry.begin,
             in_quotes(entry.name));
      }
      end = entry.end;
    }
    if (end != data_size_) {
      fail("the tensors end at data byte {}, the file holds {}: {} bytes belong to no tensor", end,
           data_size_, data_size_ - end);
    }
  }

  std::span<const std::byte> prefix_;
  int64_t file_size_;
  std::string_view what_;
  int64_t data_size_ = 0;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix, int64_t file_size,
                                           std::string_view what) {
  return HeaderReader(prefix, file_size, what).read();
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace longspan
