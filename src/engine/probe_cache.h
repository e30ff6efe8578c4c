#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "plan/transfer_cost.h"

namespace longspan {

/// What the start-up probe found, kept between starts: a small file in `folder` for each `key`, a line of
/// text that names what the figures depend on. An empty folder keeps nothing.

/// Nothing where there are no figures under this key, or none that can be believed: that is no error.
/// `overlaps` is the caller's to set.
std::optional<TransferFigures> read_probe(const std::filesystem::path& folder, const std::string& key);

/// Makes the folder where there is none. What can't be written is not kept, and a debug message says so.
void keep_probe(const std::filesystem::path& folder, const std::string& key, const TransferFigures& figures);

}  // namespace longspan
