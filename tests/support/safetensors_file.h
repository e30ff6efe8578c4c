#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::testing_support {

/// A tensor to write: `dtype` as the format spells it, `data` row-major.
struct FileTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

/// Header length, `header`, `data`: whatever they are.
inline std::string raw_safetensors(std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(uint64_t{header.size()} >> (8 * i)));
  return bytes.append(header).append(data);
}

/// A proper file. The header is padded with spaces to a multiple of `alignment` bytes.
inline std::string make_safetensors(const std::vector<FileTensor>& tensors, size_t alignment = 8) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::string data;
  for (const FileTensor& tensor : tensors) {
    header += ",\"" + tensor.name + R"(":{"dtype":")" + tensor.dtype + R"(","shape":[)";
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      header.append(i ? "," : "").append(std::to_string(tensor.shape[i]));
    }
    header += R"(],"data_offsets":[)" + std::to_string(data.size()) + ",";
    data += tensor.data;
    header += std::to_string(data.size()) + "]}";
  }
  header += "}";
  while (header.size() % alignment != 0) header += ' ';
  return raw_safetensors(header, data);
}

}  // namespace longspan::testing_support
