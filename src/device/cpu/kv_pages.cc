#include "device/cpu/kv_pages.h"

#include <fmt/format.h>
#include <longspan/error.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace longspan {
namespace {

constexpr int64_t kLine = 64;  // bytes: 16 f32, or 16 pairs of bf16
constexpr int64_t kPanel = CpuKvPool::kPanel;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

struct PageLayout {
  int64_t panels, k_panel_bytes, k_head_bytes, v_column_bytes, v_head_bytes, page_bytes;
};

PageLayout page_layout(const KvShape& shape, DType dtype) {
  check(dtype == DType::kBF16 || dtype == DType::kF32, "KV dtype is bf16 or f32");
  check(shape.layers >= 1 && shape.pages >= 1 && shape.page_size >= 1, "layers, pages, page_size >= 1");
  check(shape.heads_k >= 1 && shape.heads_v >= 1 && shape.dim_k >= 1 && shape.dim_v >= 1,
        "Hk, Hv, Dk, Dv >= 1");
  const int64_t per_line = dtype == DType::kBF16 ? 2 : 1;  // elements of Dk, or keys, that share a line
  PageLayout l{};
  l.panels = ceil_div(shape.page_size, kPanel);
  l.k_panel_bytes = ceil_div(shape.dim_k, per_line) * kLine;
  l.k_head_bytes = l.panels * l.k_panel_bytes;
  l.v_column_bytes = l.panels * kPanel / per_line * kLine;
  l.v_head_bytes = ceil_div(shape.dim_v, kPanel) * l.v_column_bytes;
  l.page_bytes = shape.heads_k * l.k_head_bytes + shape.heads_v * l.v_head_bytes;
  return l;
}

// Rounds to nearest even; NaN stays NaN. The same as f32_to_bf16, here so that it inlines.
inline uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// How an element sits in its lines: `pair` says whether it is the first or the second of its pair (bf16).
struct Bf16Cell {
  static constexpr int64_t kPerLine = 2;
  static void store(char* line, int64_t column, int64_t pair, float value) {
    reinterpret_cast<uint16_t*>(line)[2 * column + pair] = to_bf16(value);
  }
  static float load(const char* line, int64_t column, int64_t pair) {
    return bf16_to_f32(reinterpret_cast<const uint16_t*>(line)[2 * column + pair]);
  }
};

struct F32Cell {
  static constexpr int64_t kPerLine = 1;
  static void store(char* line, int64_t column, int64_t, float value) {
    reinterpret_cast<float*>(line)[column] = value;
  }
  static float load(const char* line, int64_t column, int64_t) {
    return reinterpret_cast<const float*>(line)[column];
  }
};

// Calls visit(row element, line, column, pair) for the elements of one token: K head by head, then V.
template <class Cell, class Visit>
void visit_k(const CpuKvPool& pool, int32_t layer, int32_t slot, Visit visit) {
  const KvShape& s = pool.shape;
  const int32_t page = slot / s.page_size, offset = slot % s.page_size;
  for (int32_t h = 0; h < s.heads_k; ++h) {
    char* panel = pool.k_head(layer, page, h) + offset / kPanel * pool.k_panel_bytes;
    for (int64_t d = 0; d < s.dim_k; ++d) {
      visit(static_cast<int64_t>(h) * s.dim_k + d, panel + d / Cell::kPerLine * kLine, offset % kPanel,
            d % Cell::kPerLine);
    }
  }
}

template <class Cell, class Visit>
void visit_v(const CpuKvPool& pool, int32_t layer, int32_t slot, Visit visit) {
  const KvShape& s = pool.shape;
  const int32_t page = slot / s.page_size, offset = slot % s.page_size;
  for (int32_t h = 0; h < s.heads_v; ++h) {
    char* line = pool.v_head(layer, page, h) + offset / Cell::kPerLine * kLine;
    for (int64_t d = 0; d < s.dim_v; ++d) {
      visit(static_cast<int64_t>(h) * s.dim_v + d, line + d / kPanel * pool.v_column_bytes, d % kPanel,
            offset % Cell::kPerLine);
    }
  }
}

float widen(float value) {
  return value;
}
float widen(uint16_t bits) {
  return bf16_to_f32(bits);
}

template <class Cell, class Element>
void write_rows(const OpContext& ctx, const CpuKvPool& pool, int32_t layer, Matrix k, Matrix v,
                const int32_t* slots) {
#pragma omp parallel for num_threads(ctx.threads) schedule(static) if (k.rows >= 16 && ctx.threads > 1)
  for (int64_t t = 0; t < k.rows; ++t) {
    if (slots[t] < 0) continue;
    const auto* k_row = k.row<Element>(t);
    const auto* v_row = v.row<Element>(t);
    visit_k<Cell>(pool, layer, slots[t], [&](int64_t i, char* line, int64_t column, int64_t pair) {
      Cell::store(line, column, pair, widen(k_row[i]));
    });
    visit_v<Cell>(pool, layer, slots[t], [&](int64_t i, char* line, int64_t column, int64_t pair) {
      Cell::store(line, column, pair, widen(v_row[i]));
    });
  }
}

template <class Cell>
void read_rows(const OpContext& ctx, const CpuKvPool& pool, int32_t layer, Matrix k, Matrix v,
               const int32_t* slots) {
#pragma omp parallel for num_threads(ctx.threads) schedule(static) if (k.rows >= 16 && ctx.threads > 1)
  for (int64_t t = 0; t < k.rows; ++t) {
    float* k_row = k.f32(t);
    float* v_row = v.f32(t);
    visit_k<Cell>(pool, layer, slots[t], [&](int64_t i, const char* line, int64_t column, int64_t pair) {
      k_row[i] = Cell::load(line, column, pair);
    });
    visit_v<Cell>(pool, layer, slots[t], [&](int64_t i, const char* line, int64_t column, int64_t pair) {
      v_row[i] = Cell::load(line, column, pair);
    });
  }
}

const CpuKvPool& checked_pool(const KvPool& pool, int32_t layer, Matrix k, Matrix v, const IndexArray& slots,
                              int32_t least_slot) {
  const auto* cpu = dynamic_cast<const CpuKvPool*>(&pool);
  check(cpu != nullptr, "the KV pool belongs to the CPU");
  const KvShape& s = cpu->shape;
  check(layer >= 0 && layer < s.layers, "0 <= layer < layers");
  check(k.dtype == v.dtype, "KV rows: K and V of one dtype");
  check(k.rows == slots.size && v.rows == slots.size, "KV rows: T = slots");
  check(k.cols == static_cast<int64_t>(s.heads_k) * s.dim_k, "K rows: cols = Hk * Dk");
  check(v.cols == static_cast<int64_t>(s.heads_v) * s.dim_v, "V rows: cols = Hv * Dv");
  const int64_t slot_count = static_cast<int64_t>(s.pages) * s.page_size;
  for (int64_t t = 0; t < slots.size; ++t) {
    check(slots.host[t] >= least_slot && slots.host[t] < slot_count, "slots lie within the pool");
  }
  return *cpu;
}

}  // namespace

CpuKvPool::CpuKvPool(const KvShape& pool_shape, DType pool_dtype) {
  dtype = pool_dtype;
  const PageLayout layout = page_layout(pool_shape, pool_dtype);
  shape = pool_shape;
  panels = static_cast<int32_t>(layout.panels);
  k_panel_bytes = layout.k_panel_bytes;
  k_head_bytes = layout.k_head_bytes;
  v_column_bytes = layout.v_column_bytes;
  v_head_bytes = layout.v_head_bytes;
  page_bytes = layout.page_bytes;
  bytes = page_bytes * shape.pages * shape.layers;
  // Fresh pages of the kernel are zero and take memory at their first write.
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    throw Error(ErrorCode::kCapacity,
                fmt::format("can't reserve {} bytes for {} KV pages of {} tokens over {} layers: {}; ask for "
                            "fewer pages",
                            bytes, shape.pages, shape.page_size, shape.layers, std::strerror(errno)));
  }
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish: refused where huge pages are off
  data_ = static_cast<char*>(data);
}

CpuKvPool::~CpuKvPool() {
  munmap(data_, static_cast<size_t>(bytes));
}

std::unique_ptr<KvPool> make_cpu_kv_pool(const KvShape& shape, DType dtype) {
  return std::make_unique<CpuKvPool>(shape, dtype);
}

int64_t cpu_kv_page_bytes(const KvShape& shape, DType dtype) {
  KvShape one_page = shape;
  one_page.pages = 1;  // the price of a page is asked before their number is known
  return page_layout(one_page, dtype).page_bytes * shape.layers;
}

void cpu_kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v, IndexArray slots) {
  const CpuKvPool& cpu = checked_pool(pool, layer, k, v, slots, /*least_slot=*/-1);
  if (cpu.dtype == DType::kF32) {
    check(k.dtype == DType::kF32, "KV rows are f32 or of the pool's dtype");
    return write_rows<F32Cell, float>(ctx, cpu, layer, k, v, slots.host);
  }
  check(k.dtype == DType::kF32 || k.dtype == DType::kBF16, "KV rows are f32 or of the pool's dtype");
  const auto write = k.dtype == DType::kF32 ? write_rows<Bf16Cell, float> : write_rows<Bf16Cell, uint16_t>;
  write(ctx, cpu, layer, k, v, slots.host);
}

void cpu_kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, IndexArray slots, Matrix k, Matrix v) {
  const CpuKvPool& cpu = checked_pool(pool, layer, k, v, slots, /*least_slot=*/0);
  check(k.dtype == DType::kF32, "KV rows are read as f32");
  const auto read = cpu.dtype == DType::kBF16 ? read_rows<Bf16Cell> : read_rows<F32Cell>;
  read(ctx, cpu, layer, k, v, slots.host);
}

}  // namespace longspan
