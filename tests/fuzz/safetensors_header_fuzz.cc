#include <longspan/error.h>

#include <cstdint>
#include <cstdlib>
#include <span>

#include "checkpoint/safetensors.h"

// The bytes are a whole file. Only Error may come out, never kInternal; what is accepted must hold.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    const auto header = longspan::parse_safetensors_header(file, static_cast<int64_t>(size), "fuzz");
    int64_t end = header.data_begin;
    for (const longspan::TensorEntry& tensor : header.tensors) {
      if (tensor.begin != end || tensor.end < tensor.begin) std::abort();
      end = tensor.end;
    }
    if (end != static_cast<int64_t>(size)) std::abort();
  } catch (const longspan::Error& error) {
    if (error.code() == longspan::ErrorCode::kInternal) std::abort();
  }
  return 0;
}
