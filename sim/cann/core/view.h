#pragma once

#include <string>
#include <vector>

#include "core/handles.h"

namespace cann_sim {

/// One operand of a call: a tensor as it was when the call was described, and its name in messages.
struct View {
  std::string label;  // "aclnnMm: self"
  std::vector<int64_t> dims, strides;
  aclDataType dtype = ACL_DT_UNDEFINED;
  char* data = nullptr;  // of element (0, 0, ...); a device address

  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  int64_t dim(int64_t i) const { return dims[static_cast<size_t>(i < 0 ? rank() + i : i)]; }
  int64_t count() const;
  int64_t bytes() const { return count() * size_of(dtype); }
  bool contiguous() const;
  /// Elements from the first to the last, both counted; 0 for an empty view.
  int64_t reach() const;
  /// Row i of the first dimension.
  View row(int64_t i) const;
  /// The same memory as a contiguous view of other dims.
  View reshaped(std::vector<int64_t> to) const;
  /// Broadcast to `to`: missing leading dims and dims of 1 get stride 0. Must be possible.
  View broadcast(const std::vector<int64_t>& to) const;
};

std::string text_of(const std::vector<int64_t>& dims);

/// Elements in row-major order as f32 or int64, each checked: allocated, alive, written. Throws Fault with
/// the code of a fault found while running.
std::vector<float> load(const View& view);
std::vector<int64_t> load_integers(const View& view);
void store(const View& view, const std::vector<float>& values);
void store_integers(const View& view, const std::vector<int64_t>& values);
/// Bytes as they are, for copies between views of one dtype.
std::vector<char> load_bytes(const View& view);
void store_bytes(const View& view, const std::vector<char>& bytes);
/// Elements of `dtype` that lie in these bytes.
std::vector<float> floats_of(const std::vector<char>& bytes, aclDataType dtype);
std::vector<int64_t> integers_of(const std::vector<char>& bytes, aclDataType dtype);
/// Whether all of a contiguous view was written.
bool is_written(const View& view);

/// Whether some byte belongs to both.
bool overlap(const View& a, const View& b);
bool same_memory(const View& a, const View& b);

}  // namespace cann_sim
