#include "device/cpu/tile_gemm.h"

#include <fmt/format.h>
#include <longspan/error.h>

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/check.h"

namespace longspan {
namespace {

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kBuckets[] = {1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 112, 128};
constexpr int64_t kChunk = 512;  // inner elements turned from bf16 to f32 at a time

// Scratch of one thread: a tile of c, a chunk of weights in f32, oneDNN's own.
constexpr int64_t kTileBytes = TileGemm::kMaxRows * TileGemm::kMaxPanels * kPanel * 4;
constexpr int64_t kChunkBytes = kChunk * TileGemm::kMaxPanels * kPanel * 4;
constexpr int64_t kOnednnBytes = TileGemm::kScratchBytes - kTileBytes - kChunkBytes;

}  // namespace

struct TileGemm::Onednn {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

struct TileGemm::Shape {
  int64_t rows, columns, k, a_stride, c_stride;
  bool bf16, accumulate;

  bool operator==(const Shape&) const = default;
  size_t hash() const {
    size_t h = 0;
    for (int64_t v : {rows, columns, k, a_stride, c_stride, int64_t{bf16}, int64_t{accumulate}})
      h = (h ^ static_cast<size_t>(v)) * 0x9E3779B97F4A7C15u;
    return h >> 56;
  }
};

struct TileGemm::Primitive {
  Shape shape;
  dnnl::matmul matmul;
  dnnl::memory::desc a, b, c, scratchpad;
  Primitive* next = nullptr;
};

TileGemm::TileGemm(Isa isa)
    : onednn_(std::make_unique<Onednn>()),
      rows_(row_kernels(isa)),
      blocked_(isa >= Isa::kAvx512),
      // With AMX a single row would run on other instructions and so round differently from two.
      min_rows_(has_isa(Isa::kAmx) ? 2 : 1) {}

TileGemm::~TileGemm() {
  for (std::atomic<Primitive*>& chain : chains_) {
    for (Primitive* p = chain.load(); p != nullptr;) delete std::exchange(p, p->next);
  }
}

int64_t TileGemm::bucket_rows(int64_t rows) const {
  check(rows >= 1 && rows <= kMaxRows, "a tile has 1..128 rows");
  return *std::lower_bound(std::begin(kBuckets), std::end(kBuckets), std::max(rows, min_rows_));
}

const TileGemm::Primitive* TileGemm::find(const Shape& shape, size_t chain) const {
  const Primitive* p = chains_[chain].load(std::memory_order_acquire);
  while (p != nullptr && !(p->shape == shape)) p = p->next;
  return p;
}

const TileGemm::Primitive& TileGemm::primitive(const Shape& s) {
  const size_t chain = s.hash();
  if (const Primitive* found = find(s, chain)) return *found;
  const std::lock_guard lock(insert_);
  if (const Primitive* found = find(s, chain)) return *found;

  using dnnl::memory;
  const auto dtype = s.bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::dims plain = {kPanel, 1};
  auto p = std::make_unique<Primitive>();
  p->shape = s;
  p->a = memory::desc({s.rows, s.k}, dtype, memory::dims{s.a_stride, 1});
  p->b = blocked_ ? memory::desc({s.k, s.columns}, dtype,
                                 s.bf16 ? memory::format_tag::BA16a64b2a : memory::format_tag::BA16a64b)
                  : memory::desc({s.k, s.columns}, dtype, plain);
  p->c = memory::desc({s.rows, s.columns}, memory::data_type::f32, memory::dims{s.c_stride, 1});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.accumulate) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attr.set_post_ops(ops);
  }
  try {
    const dnnl::matmul::primitive_desc desc({p->a, p->b, p->c}, attr, onednn_->engine);
    p->scratchpad = desc.scratchpad_desc();
    p->matmul = dnnl::matmul(desc);
  } catch (const dnnl::error& e) {
    throw Error(ErrorCode::kInternal, fmt::format("oneDNN made no multiply of [{}, {}] by [{}, {}]: {}",
                                                  s.rows, s.k, s.k, s.columns, e.what()));
  }
  check(static_cast<int64_t>(p->scratchpad.get_size()) <= kOnednnBytes, "oneDNN's scratchpad is too large");
  p->next = chains_[chain].load(std::memory_order_relaxed);
  chains_[chain].store(p.get(), std::memory_order_release);
  return *p.release();
}

void TileGemm::run(const Shape& shape, const void* a, const void* b, float* c, char* scratch) {
  const Primitive& p = primitive(shape);
  const auto memory = [&](const dnnl::memory::desc& desc, const void* data) {
    return dnnl::memory(desc, onednn_->engine, const_cast<void*>(data));
  };
  const dnnl::memory ma = memory(p.a, a), mb = memory(p.b, b), mc = memory(p.c, c),
                     ms = memory(p.scratchpad, scratch);
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, ma.get()},
                                  {DNNL_ARG_WEIGHTS, mb.get()},
                                  {DNNL_ARG_DST, mc.get()},
                                  {DNNL_ARG_SCRATCHPAD, ms.get()}};
  const dnnl_status_t status =
      dnnl_primitive_execute(p.matmul.get(), onednn_->stream.get(), static_cast<int>(std::size(args)), args);
  check(status == dnnl_success, "a oneDNN multiply failed");
}

void TileGemm::multiply(const PackedMatrix& b, const Tile& t, char* scratch) {
  const int64_t rows = bucket_rows(t.rows);
  const int64_t panels = PackedMatrix::panels_for(t.columns);
  const int64_t columns = panels * kPanel;
  check(panels <= kMaxPanels, "a tile has at most 2 panels");

  // Padded rows and columns have no place in c: they go through a full tile in scratch. So does a sum in
  // several chunks onto c, which would else round differently from one that went through scratch.
  const bool chunked = b.arithmetic() == Arithmetic::kF32FromBf16 && b.k_padded() > kChunk;
  const bool direct = rows == t.rows && columns == t.columns && !(chunked && t.accumulate);
  auto* tile = reinterpret_cast<float*>(scratch);
  auto* chunk = reinterpret_cast<float*>(scratch + kTileBytes);
  char* onednn_scratch = scratch + kTileBytes + kChunkBytes;
  float* c = direct ? t.c : tile;
  Shape shape{.rows = rows,
              .columns = blocked_ ? columns : kPanel,
              .k = b.k_padded(),
              .a_stride = t.a_stride,
              .c_stride = direct ? t.c_stride : columns,
              .bf16 = b.arithmetic() == Arithmetic::kBf16,
              .accumulate = direct && t.accumulate};
  const int64_t step = blocked_ ? panels : 1;
  if (b.arithmetic() == Arithmetic::kF32FromBf16) {
    for (int64_t k0 = 0; k0 < b.k_padded(); k0 += kChunk) {
      shape.k = std::min(kChunk, b.k_padded() - k0);
      for (int64_t p = 0; p < panels; ++p)
        rows_.from_bf16(reinterpret_cast<const uint16_t*>(b.panel(t.panel + p)) + k0 * kPanel,
                        shape.k * kPanel, chunk + p * shape.k * kPanel);
      for (int64_t p = 0; p < panels; p += step)
        run(shape, static_cast<const float*>(t.a) + k0, chunk + p * shape.k * kPanel, c + p * kPanel,
            onednn_scratch);
      shape.accumulate = true;
    }
  } else {
    for (int64_t p = 0; p < panels; p += step)
      run(shape, t.a, b.panel(t.panel + p), c + p * kPanel, onednn_scratch);
  }
  if (direct) return;
  for (int64_t r = 0; r < t.rows; ++r) {
    float* out = t.c + r * t.c_stride;
    if (t.accumulate)
      rows_.add(tile + r * columns, t.columns, out);
    else
      std::memcpy(out, tile + r * columns, static_cast<size_t>(t.columns) * sizeof(float));
  }
}

}  // namespace longspan
