#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::server {

/// Which of `keys` an Authorization header "Bearer KEY" has; nothing if none of them. With no keys everything
/// is allowed: 0. The time it takes does not depend on how much of a key is right.
std::optional<size_t> authorized_key(std::string_view header, const std::vector<std::string>& keys);

}  // namespace longspan::server
