#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace longspan {

/// A whole file mapped read-only (private, so that writes by others to the mapping are impossible). The file
/// is opened before it is measured: what vanishes in between is reported, never read.
class MappedFile {
 public:
  /// Throws Error(kUnreadable): missing, a directory, no permission, can't be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  bool contains(const void* address) const;
  /// Releases the resident pages of [begin, begin + size), which must lie within the file; reading them again
  /// brings them back.
  void drop_pages(const void* begin, size_t size) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// The whole of a small text file. Throws Error(kUnreadable); also if it has more than `max_bytes`.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes);

}  // namespace longspan
