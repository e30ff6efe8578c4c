#include <longspan/error.h>

namespace longspan {

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kUnreadable:
      return "unreadable";
    case ErrorCode::kInvalidRequest:
      return "invalid_request";
    case ErrorCode::kContextLength:
      return "context_length";
    case ErrorCode::kCapacity:
      return "capacity";
    case ErrorCode::kRankLost:
      return "rank_lost";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kNotSupported:
      return "not_supported";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";
}

}  // namespace longspan
