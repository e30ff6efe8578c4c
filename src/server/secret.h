#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longspan::server {

/// Whether an Authorization header is "Bearer KEY" with one of `keys`; with no keys everything is allowed.
/// The time it takes does not depend on how much of a key is right.
bool is_authorized(std::string_view header, const std::vector<std::string>& keys);

}  // namespace longspan::server
