#pragma once

namespace longspan {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace longspan
