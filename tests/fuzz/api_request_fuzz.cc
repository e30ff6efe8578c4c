#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "grammar/json_schema.h"
#include "server/api_error.h"
#include "server/api_request.h"

using namespace longspan;
using namespace longspan::server;

// Any body is read, or refused with status 400 and a message that is one line of UTF-8; nothing else is
// thrown.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (int endpoint = 0; endpoint < 4; ++endpoint) {
    try {
      if (endpoint == 0 && parse_completion(text, {}).choices() > kMaxChoices) std::abort();
      if (endpoint == 1) {
        const GenerationRequest request = parse_chat(text, {});
        if (request.prompts.size() != 1) std::abort();
        if (!request.sampling.json_schema.empty()) compile_json_schema(request.sampling.json_schema);
      }
      if (endpoint == 2) parse_tokenize(text);
      if (endpoint == 3) parse_detokenize(text);
    } catch (const SchemaError&) {
    } catch (const ApiError& error) {
      if (error.status != 400 || error.message.empty()) std::abort();
      if (error_response(error).body.find('\n') != std::string::npos) std::abort();
    }
  }
  return 0;
}
