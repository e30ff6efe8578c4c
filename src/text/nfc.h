#pragma once

#include <string>
#include <string_view>

namespace longspan {

/// `text`, which must be valid UTF-8, in Unicode normal form C as the `tokenizers` package makes it (its
/// tables leave marks added after Unicode 10 as they stand). Linear, also in texts of nothing but combining
/// marks.
std::string to_nfc(std::string_view text);

}  // namespace longspan
