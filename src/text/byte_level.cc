#include "text/byte_level.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace longspan {
namespace {

constexpr uint32_t kFirstStandIn = 0x100;  // bytes that don't print get characters from here on, in order
constexpr uint32_t kStandIns = 68;

struct Table {
  std::array<uint32_t, 256> character{};
  std::array<int16_t, kFirstStandIn + kStandIns> byte{};  // -1: not in the table
};

constexpr Table make_table() {
  Table table;
  table.byte.fill(-1);
  uint32_t next = kFirstStandIn;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    table.character[b] = prints ? b : next++;
    table.byte[table.character[b]] = static_cast<int16_t>(b);
  }
  return table;
}

constexpr Table kTable = make_table();

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string token;
  for (const char b : bytes) append_utf8(token, kTable.character[static_cast<uint8_t>(b)]);
  return token;
}

std::string from_byte_level(std::string_view token) {
  std::string bytes;
  for (std::string_view rest = token; !rest.empty();) {
    const Utf8Char c = first_char(rest);
    if (c.code_point >= kTable.byte.size() || kTable.byte[c.code_point] < 0) return std::string(token);
    bytes += static_cast<char>(kTable.byte[c.code_point]);
    rest.remove_prefix(c.bytes);
  }
  return bytes;
}

}  // namespace longspan
