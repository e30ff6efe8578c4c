#pragma once

#include <longspan/error.h>

#include <exception>
#include <optional>
#include <string>

#include "server/http.h"

namespace longspan::server {

/// A refusal in OpenAI's terms.
struct ApiError : std::exception {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::optional<std::string> param;  // the field at fault: "messages[2].content"
  std::optional<std::string> code;
  int retry_after_s = 0;  // 0: not said

  const char* what() const noexcept override { return message.c_str(); }
};

/// Status 400 for a field.
ApiError bad_field(const std::string& param, const std::string& message);
/// A request or an engine that failed, as a client is told.
ApiError api_error(ErrorCode code, const std::string& message);

/// {"error": {"message", "type", "param", "code"}}
std::string error_body(const ApiError& error);
HttpResponse error_response(const ApiError& error);
/// A refusal that has nothing but its status and a message.
HttpResponse error_response(int status, const std::string& message);

}  // namespace longspan::server
