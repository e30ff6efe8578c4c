#include "server/api_error.h"

#include <nlohmann/json.hpp>

namespace longspan::server {
namespace {

using nlohmann::ordered_json;

ordered_json or_null(const std::optional<std::string>& text) {
  return text ? ordered_json(*text) : ordered_json();
}

int status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kInvalidRequest:
    case ErrorCode::kContextLength:
    case ErrorCode::kCapacity:
    case ErrorCode::kNotSupported:
      return 400;
    case ErrorCode::kCancelled:
      return 409;
    case ErrorCode::kRankLost:
      return 503;
    case ErrorCode::kUnreadable:
    case ErrorCode::kInternal:
      break;
  }
  return 500;
}

}  // namespace

ApiError bad_field(const std::string& param, const std::string& message) {
  ApiError error;
  error.message = message;
  error.param = param;
  return error;
}

ApiError api_error(ErrorCode code, const std::string& message) {
  ApiError error;
  error.status = status_of(code);
  error.type = error.status >= 500 ? "server_error" : "invalid_request_error";
  error.message = message;
  error.code = code == ErrorCode::kContextLength ? "context_length_exceeded" : to_string(code);
  return error;
}

std::string error_body(const ApiError& error) {
  const ordered_json body = {{"error",
                              {{"message", error.message},
                               {"type", error.type},
                               {"param", or_null(error.param)},
                               {"code", or_null(error.code)}}}};
  return body.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = error_body(error)};
  if (error.retry_after_s > 0)
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

HttpResponse error_response(int status, const std::string& message) {
  ApiError error;
  error.status = status;
  error.message = message;
  if (status >= 500) error.type = "server_error";
  return error_response(error);
}

}  // namespace longspan::server
