#pragma once

#include <stdexcept>
#include <string>

namespace longspan {

/// What went wrong, and with it how far it reaches: a request code fails one request, a rank or process code
/// everything. The command line turns codes into exit codes (docs/errors.md).
enum class ErrorCode {
  kUsage,           ///< bad option or illegal layout; process, exit code 2
  kUnreadable,      ///< a model, input or output file can't be read or written; process, exit code 3
  kInvalidRequest,  ///< a request breaks a rule; that request fails alone
  kContextLength,   ///< a prompt is longer than the model's context; that request fails alone
  kCapacity,      ///< out of memory or of KV pages; a request that can never fit, or the process, exit code 4
  kRankLost,      ///< a rank failed or a collective ran out of time; the engine is dead, exit code 5
  kCancelled,     ///< the caller cancelled the request, or the process was interrupted (exit code 130)
  kNotSupported,  ///< a known thing that this build refuses by name; process, exit code 2
  kInternal,      ///< a broken invariant: a defect of Longspan
};

/// "invalid_request", "context_length", ...: the `code` field of batch output.
const char* to_string(ErrorCode code);

/// The one exception type of Longspan. `what()` is one line: the rule, the values, the nearest legal choice.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace longspan
