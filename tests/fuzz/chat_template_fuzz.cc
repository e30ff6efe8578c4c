// Any bytes as a Jinja chat template: refused with an Error, or a format that renders.
#include <longspan/error.h>

#include <cstdint>
#include <string_view>

#include "text/chat_template.h"

using namespace longspan;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const ChatTemplate chat(
        recognize_chat_template({reinterpret_cast<const char*>(data), size}, "<s>", "chat_template.jinja"));
    chat.render({{"user", "a"}, {"assistant", "<think>b</think>c"}, {"system", ""}});
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInternal) throw;
  }
  return 0;
}
