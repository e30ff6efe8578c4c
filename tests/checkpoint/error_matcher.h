#pragma once

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <string>

namespace longspan {

constexpr ErrorCode kUnreadable = ErrorCode::kUnreadable;
constexpr ErrorCode kNotSupported = ErrorCode::kNotSupported;

/// Runs `call`; succeeds if it throws Error(code) whose one-line message holds `part`.
template <class Call>
testing::AssertionResult throws_error(Call&& call, ErrorCode code, const std::string& part) {
  try {
    call();
  } catch (const Error& error) {
    const std::string message = error.what();
    if (error.code() != code) {
      return testing::AssertionFailure() << to_string(error.code()) << ": " << message;
    }
    if (message.find(part) == message.npos)
      return testing::AssertionFailure() << "no '" << part << "' in: " << message;
    if (message.find('\n') != message.npos)
      return testing::AssertionFailure() << "more than a line: " << message;
    return testing::AssertionSuccess() << message;
  }
  return testing::AssertionFailure() << "nothing was thrown; expected: " << part;
}

}  // namespace longspan
