#include "core/view.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/fault.h"
#include "core/runtime.h"

namespace cann_sim {
namespace {

float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// To nearest, ties to even; NaN stays NaN.
uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float from_f16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024.0f + static_cast<float>(mantissa), exponent - 25)
                          : std::ldexp(static_cast<float>(mantissa), -24));
}

uint16_t to_f16(float value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7e00);
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x1p-14f)
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
  int exponent = 0;
  const float fraction = std::frexp(magnitude, &exponent);                          // in [0.5, 1)
  const auto mantissa = static_cast<uint32_t>(std::nearbyint(fraction * 2048.0f));  // 1024..2048
  return static_cast<uint16_t>(sign | ((static_cast<uint32_t>(exponent + 14) << 10) + mantissa - 1024));
}

template <class T>
T get(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

float to_float(const std::byte* at, aclDataType dtype) {
  switch (dtype) {
    case ACL_FLOAT:
      return get<float>(at);
    case ACL_FLOAT16:
      return from_f16(get<uint16_t>(at));
    case ACL_BF16:
      return from_bf16(get<uint16_t>(at));
    case ACL_INT32:
      return static_cast<float>(get<int32_t>(at));
    case ACL_INT64:
      return static_cast<float>(get<int64_t>(at));
    case ACL_DOUBLE:
      return static_cast<float>(get<double>(at));
    default:
      return static_cast<float>(get<int8_t>(at));
  }
}

void from_float(std::byte* at, aclDataType dtype, float value) {
  switch (dtype) {
    case ACL_FLOAT:
      return put(at, value);
    case ACL_FLOAT16:
      return put(at, to_f16(value));
    case ACL_BF16:
      return put(at, to_bf16(value));
    case ACL_INT32:
      return put(at, static_cast<int32_t>(value));
    case ACL_INT64:
      return put(at, static_cast<int64_t>(value));
    case ACL_DOUBLE:
      return put(at, static_cast<double>(value));
    default:
      return put(at, static_cast<int8_t>(value));
  }
}

int64_t to_integer(const std::byte* at, aclDataType dtype) {
  switch (dtype) {
    case ACL_INT32:
      return get<int32_t>(at);
    case ACL_INT64:
      return get<int64_t>(at);
    case ACL_INT8:
      return get<int8_t>(at);
    case ACL_BOOL:
    case ACL_UINT8:
      return get<uint8_t>(at);
    default:
      return static_cast<int64_t>(to_float(at, dtype));
  }
}

void from_integer(std::byte* at, aclDataType dtype, int64_t value) {
  switch (dtype) {
    case ACL_INT32:
      return put(at, static_cast<int32_t>(value));
    case ACL_INT64:
      return put(at, value);
    case ACL_INT8:
    case ACL_UINT8:
    case ACL_BOOL:
      return put(at, static_cast<int8_t>(value));
    default:
      return from_float(at, dtype, static_cast<float>(value));
  }
}

// Calls run(first element's address, how many in a row, index of the first) for runs along the last dim; a
// run has one element where the last dim is not dense.
template <class Run>
void for_runs(const View& view, Run run) {
  const int64_t elements = view.count();
  if (elements == 0) return;
  const int64_t size = size_of(view.dtype);
  if (view.contiguous()) return run(view.data, elements, int64_t{0});
  const int64_t last = view.rank() - 1;
  const bool dense = view.strides[last] == 1;
  const int64_t inner = dense ? view.dims[last] : 1;
  const int64_t outer_rank = dense ? last : last + 1;
  std::vector<int64_t> index(static_cast<size_t>(outer_rank));
  int64_t offset = 0;
  for (int64_t done = 0; done < elements; done += inner) {
    run(view.data + offset * size, inner, done);
    for (int64_t d = outer_rank - 1; d >= 0; --d) {
      offset += view.strides[d];
      if (++index[d] < view.dims[d]) break;
      offset -= view.strides[d] * view.dims[d];
      index[d] = 0;
    }
  }
}

// A transposed view as a dense one, and where each of its elements belongs: calls place(i) with the row-major
// index in `view` of element after element.
template <class Place>
void for_transposed(const View& view, const std::vector<size_t>& order, Place place) {
  std::vector<int64_t> to_stride(view.dims.size());  // of view's row-major order
  int64_t product = 1;
  for (int64_t d = view.rank() - 1; d >= 0; --d) {
    to_stride[d] = product;
    product *= view.dims[d];
  }
  std::vector<int64_t> index(order.size());
  int64_t at = 0;
  for (int64_t done = 0; done < product; ++done) {
    place(at);
    for (int64_t d = view.rank() - 1; d >= 0; --d) {
      at += to_stride[order[d]];
      if (++index[d] < view.dims[order[d]]) break;
      at -= to_stride[order[d]] * view.dims[order[d]];
      index[d] = 0;
    }
  }
}

// The dims by falling stride.
std::vector<size_t> stride_order(const View& view) {
  std::vector<size_t> order(view.dims.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return view.strides[a] > view.strides[b]; });
  return order;
}

bool is_transposed(const View& view) {
  if (view.rank() < 2 || view.strides.back() == 1 || view.strides.back() == 0) return false;
  return std::any_of(view.strides.begin(), view.strides.end(), [](int64_t s) { return s == 1; });
}

template <class T, class Get>
std::vector<T> load_as(const View& view, Get value) {
  if (is_transposed(view)) {  // by its rows in memory: a run of elements at a time
    const std::vector<size_t> order = stride_order(view);
    View dense = view;
    for (size_t i = 0; i < order.size(); ++i) {
      dense.dims[i] = view.dims[order[i]];
      dense.strides[i] = view.strides[order[i]];
    }
    const std::vector<T> loaded = load_as<T>(dense, value);
    std::vector<T> result(loaded.size());
    size_t next = 0;
    for_transposed(view, order, [&](int64_t at) { result[at] = loaded[next++]; });
    return result;
  }
  std::vector<T> result(static_cast<size_t>(view.count()));
  const int64_t size = size_of(view.dtype);
  DeviceMemory& memory = Runtime::get().memory();
  for_runs(view, [&](char* at, int64_t elements, int64_t first) {
    const std::byte* bytes =
        memory.read(at, static_cast<uint64_t>(elements * size), view.label, ACL_ERROR_RT_AICORE_EXCEPTION);
    for (int64_t i = 0; i < elements; ++i) result[first + i] = value(bytes + i * size, view.dtype);
  });
  return result;
}

template <class T, class Put>
void store_as(const View& view, const std::vector<T>& values, Put value) {
  const int64_t size = size_of(view.dtype);
  DeviceMemory& memory = Runtime::get().memory();
  for_runs(view, [&](char* at, int64_t elements, int64_t first) {
    std::byte* bytes =
        memory.write(at, static_cast<uint64_t>(elements * size), view.label, ACL_ERROR_RT_AICORE_EXCEPTION);
    for (int64_t i = 0; i < elements; ++i) value(bytes + i * size, view.dtype, values[first + i]);
  });
}

template <class T, class Get>
std::vector<T> elements_of(const std::vector<char>& bytes, aclDataType dtype, Get value) {
  const auto size = static_cast<size_t>(size_of(dtype));
  std::vector<T> result(bytes.size() / size);
  const auto* at = reinterpret_cast<const std::byte*>(bytes.data());
  for (size_t i = 0; i < result.size(); ++i) result[i] = value(at + i * size, dtype);
  return result;
}

}  // namespace

int64_t View::count() const {
  int64_t product = 1;
  for (const int64_t d : dims) product *= d;
  return product;
}

bool View::contiguous() const {
  int64_t expected = 1;
  for (int64_t i = rank() - 1; i >= 0; --i) {
    if (dims[i] != 1 && strides[i] != expected) return false;
    expected *= dims[i];
  }
  return true;
}

int64_t View::reach() const {
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return 0;
    last += (dims[i] - 1) * strides[i];
  }
  return last + 1;
}

View View::row(int64_t i) const {
  View result = *this;
  result.data = data + i * strides[0] * size_of(dtype);
  result.dims.erase(result.dims.begin());
  result.strides.erase(result.strides.begin());
  return result;
}

View View::reshaped(std::vector<int64_t> to) const {
  View result = *this;
  result.dims = std::move(to);
  result.strides.assign(result.dims.size(), 1);
  for (int64_t i = result.rank() - 2; i >= 0; --i)
    result.strides[i] = result.strides[i + 1] * result.dims[i + 1];
  return result;
}

View View::broadcast(const std::vector<int64_t>& to) const {
  View result = *this;
  const size_t missing = to.size() - dims.size();
  result.dims = to;
  result.strides.assign(to.size(), 0);
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] != 1) result.strides[missing + i] = strides[i];
  return result;
}

std::string text_of(const std::vector<int64_t>& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

std::vector<float> load(const View& view) {
  return load_as<float>(view, to_float);
}
std::vector<int64_t> load_integers(const View& view) {
  return load_as<int64_t>(view, to_integer);
}
void store(const View& view, const std::vector<float>& values) {
  store_as(view, values, from_float);
}
void store_integers(const View& view, const std::vector<int64_t>& values) {
  store_as(view, values, from_integer);
}

std::vector<char> load_bytes(const View& view) {
  const int64_t size = size_of(view.dtype);
  std::vector<char> result(static_cast<size_t>(view.count() * size));
  for_runs(view, [&](char* at, int64_t elements, int64_t first) {
    std::memcpy(result.data() + first * size,
                Runtime::get().memory().read(at, static_cast<uint64_t>(elements * size), view.label,
                                             ACL_ERROR_RT_AICORE_EXCEPTION),
                static_cast<size_t>(elements * size));
  });
  return result;
}

void store_bytes(const View& view, const std::vector<char>& bytes) {
  const int64_t size = size_of(view.dtype);
  for_runs(view, [&](char* at, int64_t elements, int64_t first) {
    std::memcpy(Runtime::get().memory().write(at, static_cast<uint64_t>(elements * size), view.label,
                                              ACL_ERROR_RT_AICORE_EXCEPTION),
                bytes.data() + first * size, static_cast<size_t>(elements * size));
  });
}

std::vector<float> floats_of(const std::vector<char>& bytes, aclDataType dtype) {
  return elements_of<float>(bytes, dtype, to_float);
}
std::vector<int64_t> integers_of(const std::vector<char>& bytes, aclDataType dtype) {
  return elements_of<int64_t>(bytes, dtype, to_integer);
}

bool is_written(const View& view) {
  return Runtime::get().memory().written(view.data, static_cast<uint64_t>(view.bytes()), view.label,
                                         ACL_ERROR_RT_AICORE_EXCEPTION);
}

bool same_memory(const View& a, const View& b) {
  return a.data == b.data && a.dtype == b.dtype && a.dims == b.dims && a.strides == b.strides;
}

bool overlap(const View& a, const View& b) {
  const int64_t a_bytes = a.reach() * size_of(a.dtype), b_bytes = b.reach() * size_of(b.dtype);
  if (a_bytes == 0 || b_bytes == 0 || a.data + a_bytes <= b.data || b.data + b_bytes <= a.data) return false;
  if (a.contiguous() && b.contiguous()) return true;
  // Interleaved, such as two column slices of one matrix: byte by byte.
  std::vector<bool> touched(static_cast<size_t>(a_bytes));
  for_runs(a, [&](char* at, int64_t elements, int64_t) {
    const auto begin = touched.begin() + (at - a.data);
    std::fill(begin, begin + elements * size_of(a.dtype), true);
  });
  bool found = false;
  for_runs(b, [&](char* at, int64_t elements, int64_t) {
    const int64_t begin = std::max<int64_t>(0, at - a.data);
    const int64_t end = std::min<int64_t>(a_bytes, at - a.data + elements * size_of(b.dtype));
    for (int64_t i = begin; i < end && !found; ++i) found = touched[i];
  });
  return found;
}

}  // namespace cann_sim
