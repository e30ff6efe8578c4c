#pragma once

#include <optional>
#include <string_view>

#include "server/http.h"

namespace longspan::server {

/// A file of the page at "/", which needs nothing from elsewhere; nothing for other paths.
std::optional<HttpResponse> page_file(std::string_view path);

}  // namespace longspan::server
