#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <compare>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "text/unicode_tables.h"

namespace longspan {
namespace {

// Characters below U+0300 are their own normal form, are starters and never join what stands before them.
constexpr uint32_t kFirstMark = 0x300;
constexpr size_t kLongestDecomposition = 8;  // code points; Unicode's longest canonical one has 4

bool is_inert(uint32_t code_point) {
  const auto table = nfc_inert_characters();
  const auto after = std::upper_bound(table.begin(), table.end(), code_point,
                                      [](uint32_t c, const CodePointRange& r) { return c < r.first; });
  return after != table.begin() && code_point <= std::prev(after)->last;
}

int combining_class(int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

void append_decomposed(uint32_t code_point, std::vector<int32_t>& out) {
  int32_t parts[kLongestDecomposition];
  int boundary = 0;
  const auto count =
      utf8proc_decompose_char(static_cast<int32_t>(code_point), parts, kLongestDecomposition,
                              static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE), &boundary);
  check(count >= 0 && count <= static_cast<utf8proc_ssize_t>(kLongestDecomposition), "decomposition length");
  out.insert(out.end(), parts, parts + count);
}

// utf8proc's own reordering moves one mark at a time, which is quadratic in a run of marks.
void order_marks(std::vector<int32_t>& points) {
  struct Mark {
    int combining_class;
    size_t place;  // marks of one class keep their order
    int32_t code_point;
    auto operator<=>(const Mark&) const = default;
  };
  std::vector<Mark> order;
  for (size_t i = 0; i < points.size();) {
    if (combining_class(points[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    order.clear();
    for (size_t k = i; k < end; ++k) order.push_back({combining_class(points[k]), k, points[k]});
    std::ranges::sort(order);
    for (size_t k = i; k < end; ++k) points[k] = order[k - i].code_point;
    i = end;
  }
}

// Appends the composed form of `points` (decomposed, in any order) and clears them.
void flush(std::vector<int32_t>& points, std::string& out) {
  order_marks(points);
  const auto count =
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  check(count >= 0, "utf8proc_normalize_utf32");
  for (utf8proc_ssize_t i = 0; i < count; ++i) append_utf8(out, static_cast<uint32_t>(points[i]));
  points.clear();
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<int32_t> points;  // decomposed text since the last simple character, it included
  size_t raw = 0;               // while points is empty: text[raw, at) is simple and not yet in `out`
  size_t last = 0;              // start of the last simple character
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    if (c.code_point < kFirstMark) {
      if (!points.empty()) {
        flush(points, out);
        raw = at;
      }
      last = at;
    } else if (is_inert(c.code_point)) {
      if (!points.empty()) {
        flush(points, out);
        raw = at;
      }
      out.append(text.substr(raw, at + c.bytes - raw));
      raw = at + c.bytes;
    } else {
      if (points.empty() && raw < at) {
        out.append(text.substr(raw, last - raw));
        append_decomposed(first_char(text.substr(last)).code_point, points);
      }
      append_decomposed(c.code_point, points);
    }
    at += c.bytes;
  }
  if (points.empty()) {
    out.append(text.substr(raw));
  } else {
    flush(points, out);
  }
  return out;
}

}  // namespace longspan
