#include "core/fault.h"

namespace cann_sim {
namespace {

struct Recent {
  std::string pending, given;
};

Recent& recent() {
  thread_local Recent value;
  return value;
}

}  // namespace

void remember_error(const std::string& text) {
  recent().pending = text;
}

const char* take_error() {
  Recent& r = recent();
  if (r.pending.empty()) return nullptr;
  r.given = std::exchange(r.pending, {});
  return r.given.c_str();
}

}  // namespace cann_sim
