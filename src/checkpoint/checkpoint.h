#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tensor/matrix.h"

namespace longspan {

/// The weights of a Hugging Face folder: model.safetensors, or the shards that model.safetensors.index.json
/// names, memory-mapped. Views point into the maps and live as long as the Checkpoint. Immutable after
/// open(); safe to read from several threads. Format: https://huggingface.co/docs/safetensors (8-byte
/// little-endian header length, JSON header, data).
class Checkpoint {
 public:
  /// Maps and validates every shard: header size, JSON, dtypes, shapes against byte ranges, no overlap, no
  /// gap, nothing past the end of the file. Throws Error(kUnreadable) that names file, tensor and values;
  /// Error(kNotSupported) for GGUF, FP8 and other quantised formats, naming what to do instead.
  static Checkpoint open(const std::filesystem::path& folder);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  bool has(const std::string& name) const;
  /// A tensor of shape [rows, cols], or [cols] where rows is 1. Throws Error(kUnreadable) if it is missing or
  /// has another shape, naming both shapes. The data is aligned to its dtype.
  WeightView view(const std::string& name, int64_t rows, int64_t cols) const;
  std::vector<std::string> names() const;  // ascending
  int64_t bytes() const;                   // of all tensors
  DType main_dtype() const;                // of most bytes; F32 if there are none
  /// A hash of what is cheap to read: names, sizes and headers of the files, and the ends of their data.
  uint64_t fingerprint() const;

  /// Tells the kernel that the mapped pages of `view` are not needed any more (they can be read again). Does
  /// nothing for data outside the maps.
  void drop_pages(const WeightView& view) const;

 private:
  struct Impl;
  explicit Checkpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan
