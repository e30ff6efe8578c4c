#pragma once

#include <cstddef>
#include <memory>

#include "device/ops.h"

namespace longspan {

/// Pages of one device in plain memory, packed so that a page is the right-hand side of attention's
/// multiplies.
///
/// A page of one layer holds, per head, panels of 16 keys (the last panel of a page is padded, page_size 7
/// takes one panel); S = panels * 16 slots per page, D2 = ceil(Dk / 2), D16 = ceil(Dv / 16):
///   bf16: K [Hk][panels][D2][16 keys][2 of Dk]       V [Hv][D16][S / 2][16 of Dv][2 keys]
///   f32:  K [Hk][panels][Dk][16 keys]                V [Hv][D16][S][16 of Dv]
/// Padding is zero and stays so. Pages of a layer are contiguous; layers follow each other.
class CpuKvPool : public KvPool {
 public:
  static constexpr int kPanel = 16;

  /// Reserves and zeroes the memory; throws Error(kCapacity) with the bytes, Error(kInternal) for a bad
  /// shape.
  CpuKvPool(const KvShape& pool_shape, DType pool_dtype);
  ~CpuKvPool() override;
  CpuKvPool(const CpuKvPool&) = delete;
  CpuKvPool& operator=(const CpuKvPool&) = delete;

  int32_t panels = 0;          // of a page
  int64_t k_panel_bytes = 0;   // from one panel of 16 keys to the next
  int64_t k_head_bytes = 0;    // from one head's K to the next within a page
  int64_t v_column_bytes = 0;  // from 16 columns of Dv to the next
  int64_t v_head_bytes = 0;
  int64_t page_bytes = 0;  // one page of one layer: K of all heads, then V

  char* k_head(int32_t layer, int32_t page, int32_t head) const {
    return page_data(layer, page) + head * k_head_bytes;
  }
  char* v_head(int32_t layer, int32_t page, int32_t head) const {
    return page_data(layer, page) + shape.heads_k * k_head_bytes + head * v_head_bytes;
  }

 private:
  char* page_data(int32_t layer, int32_t page) const {
    return data_ + (static_cast<int64_t>(layer) * shape.pages + page) * page_bytes;
  }
  char* data_ = nullptr;
};

/// dtype kBF16 or kF32.
std::unique_ptr<KvPool> make_cpu_kv_pool(const KvShape& shape, DType dtype);

/// One page over all layers, K and V, padding included.
int64_t cpu_kv_page_bytes(const KvShape& shape, DType dtype);

/// Rows f32 [T, Hk*Dk] and [T, Hv*Dv] to slots i32 [T]; values round to nearest even where the pool is bf16;
/// rows with slot -1 are left out.
/// Distinct slots may be written by several threads at once.
void cpu_kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, IndexArray slots);

/// The rows at slots i32 [T] as f32.
void cpu_kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, IndexArray slots, Matrix k, Matrix v);

}  // namespace longspan
