#pragma once

#include <cstdint>
#include <span>

namespace longspan {

struct CodePointRange {
  uint32_t first, last;  // both inclusive
};

struct CategoryRange {
  uint32_t first, last;  // both inclusive
  char category[3];      // general category, "Lo"
};

/// Characters that joined their category after Unicode 14, up to the version the `tokenizers` package's regex
/// engine has. PCRE2 may not know them. Sorted, ranges of one category don't overlap.
std::span<const CategoryRange> newer_characters();

/// Characters that the `tokenizers` package's NFC, whose tables are older than utf8proc's, neither reorders
/// nor composes. Sorted, disjoint.
std::span<const CodePointRange> nfc_inert_characters();

}  // namespace longspan
