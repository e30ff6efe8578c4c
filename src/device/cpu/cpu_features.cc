#include "device/cpu/cpu_features.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <longspan/error.h>

#include <cstdint>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace longspan {
namespace {

constexpr Isa kAll[] = {Isa::kPortable,   Isa::kAvx2,       Isa::kAvx512,
                        Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmx};

#if defined(__x86_64__)

constexpr bool bit(uint32_t word, int index) {
  return (word >> index & 1) != 0;
}

/// XCR0: the register states that the operating system saves.
uint64_t saved_states() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

/// Tile registers are off until a process asks for them (Linux 5.16 and later).
bool request_amx_permission() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureXtiledata = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

Isa detect() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return Isa::kPortable;
  const bool xsave = bit(ecx, 27), fma = bit(ecx, 12);
  if (!xsave || !fma) return Isa::kPortable;
  const uint64_t states = saved_states();
  constexpr uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;

  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return Isa::kPortable;
  const bool amx = bit(edx, 24) && bit(edx, 22);  // tiles, bf16
  if (!bit(ebx, 5) || (states & kYmm) != kYmm) return Isa::kPortable;
  const bool avx512 = bit(ebx, 16) && bit(ebx, 17) && bit(ebx, 30) && bit(ebx, 31);  // F, DQ, BW, VL
  const bool vnni = bit(ecx, 11);
  if (!avx512 || (states & kZmm) != kZmm) return Isa::kAvx2;
  if (!vnni) return Isa::kAvx512;
  if (!__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) || !bit(eax, 5)) return Isa::kAvx512Vnni;
  if (!amx || (states & kTiles) != kTiles || !request_amx_permission()) return Isa::kAvx512Bf16;
  return Isa::kAmx;
}

#else

Isa detect() {
  return Isa::kPortable;
}

#endif

Isa best_isa() {
  static const Isa best = detect();
  return best;
}

std::string available_names() {
  std::vector<std::string_view> names = {"auto"};
  for (Isa isa : available_isas()) names.push_back(to_string(isa));
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512_vnni";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

bool has_isa(Isa isa) {
  return isa <= best_isa();
}

std::vector<Isa> available_isas() {
  std::vector<Isa> result;
  for (Isa isa : kAll) {
    if (has_isa(isa)) result.push_back(isa);
  }
  return result;
}

Isa parse_isa(std::string_view name) {
  if (name == "auto") return best_isa();
  for (Isa isa : kAll) {
    if (name != to_string(isa)) continue;
    if (has_isa(isa)) return isa;
    throw Error(ErrorCode::kUsage, fmt::format("this CPU has no {}; it has: {}", name, available_names()));
  }
  throw Error(ErrorCode::kUsage,
              fmt::format("unknown instruction set '{}'; choices on this CPU: {}", name, available_names()));
}

}  // namespace longspan
