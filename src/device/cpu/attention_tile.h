#pragma once

#include <cstdint>

/// The contract between attention.cc and its kernels. Kernel files are compiled for one instruction set each
/// and must emit no code that the linker could share with others: here are types alone, no functions.
namespace longspan {

/// The unit of work: the query rows that one kernel call keeps in cache, against the keys of one kv head.
/// Row r = i * heads + h is query i of the h-th query head; all heads share the kv head.
struct AttentionTile {
  const float* q;    // head 0 of query 0; heads dk apart
  int64_t q_stride;  // elements from one query to the next
  int32_t queries;   // queries * heads <= TileKernel::max_rows
  int32_t heads;
  int32_t dk, dv;
  float scale_log2;     // softmax scale * log2(e)
  int32_t first_limit;  // keys that query 0 sees
  int32_t limit_step;   // further keys that each next query sees: 1 causal, 0 not

  const int32_t* pages;  // physical pages of the sequence
  const char* k;         // this layer and head in page 0
  const char* v;
  int64_t page_bytes, k_panel_bytes, v_column_bytes;  // see CpuKvPool
  int32_t page_size, page_panels;
};

/// Unnormalised softmax sums over some keys, f32: out [rows, D16 * 16] = sum of 2^(score - max) * v, sum
/// [rows] of 2^(score - max), max_log2 [rows] a score in base 2 that no other exceeds by more than 8. All
/// three have room for a multiple of kRowMultiple rows; what lies after the last row is undefined.
struct PartialRows {
  float* out;
  float* max_log2;
  float* sum;
};

/// Stateless: everything lies in the tile, the scratch and the partial rows.
struct TileKernel {
  int32_t max_rows;
  int64_t (*scratch_bytes)(int32_t dk, int32_t dv);
  /// Brings the queries into scratch in the form of the multiply; once per tile, before reduce_chunk.
  void (*pack_queries)(const AttentionTile& tile, void* scratch);
  /// Keys of panels [chunk * kChunkPanels, ...) of the sequence, also where there are none. Writes every row
  /// of `part`.
  void (*reduce_chunk)(const AttentionTile& tile, int32_t chunk, void* scratch, PartialRows part);
  /// total = total + part.
  void (*merge)(PartialRows total, PartialRows part, int32_t rows, int32_t columns);
  /// Writes out / sum to `out` (head h of query i at i * out_stride + h * dv) and, unless null, the natural
  /// log of the row's sum to lse_ln[i * lse_stride + h]. A row without keys gives 0 and -inf.
  void (*finish)(const AttentionTile& tile, PartialRows total, float* out, int64_t out_stride, float* lse_ln,
                 int64_t lse_stride);
};

constexpr int32_t kRowMultiple = 16;
constexpr int32_t kPanelKeys = 16;
constexpr int32_t kChunkPanels =
    128;  // 2048 slots: long enough to merge rarely, short enough to spread decode

/// One pair of kernels per instruction set, by the dtype of the pool. AMX takes bf16 with dk a multiple
/// of 32.
struct IsaKernels {
  TileKernel f32;
  TileKernel bf16;
};

extern const IsaKernels kPortableKernels;
#if defined(__x86_64__)
extern const IsaKernels kAvx2Kernels;
extern const IsaKernels kAvx512Kernels;
extern const TileKernel kAvx512Bf16Kernel;
extern const TileKernel kAmxKernel;
#endif

}  // namespace longspan
