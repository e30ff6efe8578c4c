#pragma once

#include <longspan/request.h>

#include <nlohmann/json.hpp>
#include <string>

namespace longspan::server {

/// What a client sends to /v1/completions, or for messages to /v1/chat/completions.
nlohmann::json client_body(const std::string& model, const Request& request);
bool is_chat(const Request& request);
/// As text; bytes that are not UTF-8 become U+FFFD.
std::string body_text(const nlohmann::json& body);

}  // namespace longspan::server
