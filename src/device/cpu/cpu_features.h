#pragma once

#include <string_view>
#include <vector>

namespace longspan {

/// Instruction sets with kernels of their own; each one includes those before it.
///   kPortable    plain C++ vectors
///   kAvx2        AVX2 + FMA
///   kAvx512      AVX-512 F, BW, DQ, VL
///   kAvx512Vnni  + 8-bit integer dot products
///   kAvx512Bf16  + bf16 dot products
///   kAmx         + AMX bf16 tiles
enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };

/// "portable", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx".
std::string_view to_string(Isa isa);

/// True where both the CPU has it and the operating system saves its registers. For kAmx the first call asks
/// the kernel for the process's permission to use tiles.
bool has_isa(Isa isa);

/// What this machine has, kPortable first.
std::vector<Isa> available_isas();

/// "auto" (the best of this machine) or a name; throws Error(kUsage) for an unknown name and for one that the
/// machine lacks, naming what it has.
Isa parse_isa(std::string_view name);

}  // namespace longspan
