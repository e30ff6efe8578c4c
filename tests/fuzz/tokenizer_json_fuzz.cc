// Any bytes as a tokenizer.json: refused with an Error, or a tokenizer that encodes and decodes. Seeds:
// tests/golden/text/*/tokenizer.json.
#include <longspan/error.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/detokenizer.h"
#include "text/tokenizer.h"

using namespace longspan;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kText = "It's 1984: e\xcc\x81\xf0\x9f\x98\x80 \xff<|im_end|>  \n\tx<a>b";
  try {
    const Tokenizer tokenizer = Tokenizer::parse({reinterpret_cast<const char*>(data), size});
    const std::vector<int32_t> ids = tokenizer.encode(kText, true);
    Detokenizer pieces(tokenizer);
    std::string joined;
    for (const int32_t id : ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) __builtin_trap();
      joined += pieces.push(id);
    }
    joined += pieces.finish();
    if (joined != tokenizer.decode(ids, true)) __builtin_trap();
  } catch (const Error& e) {
    if (e.code() == ErrorCode::kInternal) throw;
  }
  return 0;
}
