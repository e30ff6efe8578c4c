#pragma once

#include <gtest/gtest.h>
#include <longspan/error.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "text/text_file.h"

namespace longspan {

inline std::filesystem::path golden_folder() {
  return std::filesystem::path(LONGSPAN_SOURCE_DIR) / "tests/golden/text";
}

inline nlohmann::json read_golden(const std::string& name) {
  return nlohmann::json::parse(read_text_file(golden_folder() / name));
}

inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

/// Runs `f`, which must throw Error with this code and a one-line message that contains `part`.
inline void expect_error(ErrorCode code, const std::string& part, const std::function<void()>& f) {
  try {
    f();
    ADD_FAILURE() << "no error; expected one with \"" << part << "\"";
  } catch (const Error& e) {
    const std::string message = e.what();
    EXPECT_EQ(to_string(e.code()), std::string(to_string(code))) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

}  // namespace longspan
