#pragma once

#include <longspan/request.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/http_client.h"

namespace longspan::server {

/// A streamed answer as its client saw it; times in seconds on the clock of `ask_streaming`.
struct StreamedAnswer {
  std::string failure;            // "": it is whole; else why not, in a few words: "status 429"
  std::optional<double> first_s;  // when the first text came, or the end of an answer without any
  double end_s = 0;
  std::vector<double> gaps_s;                                    // between chunks that bring text
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;  // as the server counts them; 0: it does not
};

/// Asks a server for one completion, or for messages one chat, as a stream. `now`: seconds on a steady clock.
/// Throws Error(kCancelled) after client.stop(), else nothing for what the server or the connection does.
StreamedAnswer ask_streaming(HttpClient& client, const std::string& model, const Request& request,
                             const std::function<double()>& now);

}  // namespace longspan::server
