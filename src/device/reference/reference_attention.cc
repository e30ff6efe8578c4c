#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "device/op_checks.h"
#include "device/reference/reference_ops.h"

namespace longspan {
namespace {

const ReferenceKvPool& as_reference(const KvPool* pool) {
  const auto* result = dynamic_cast<const ReferenceKvPool*>(pool);
  check(result != nullptr, "the KV pool belongs to another backend");
  return *result;
}

void store(Matrix m, int64_t row, const float* values) {
  for (int64_t i = 0; i < m.cols; ++i) m.f32(row)[i] = values[i];
}

}  // namespace

std::unique_ptr<KvPool> ReferenceOps::make_kv_pool(const KvShape& shape) {
  auto pool = std::make_unique<ReferenceKvPool>();
  pool->shape = shape;
  pool->dtype = compute_;
  pool->k.resize(static_cast<size_t>(shape.layers * pool->slots() * shape.heads_k * shape.dim_k));
  pool->v.resize(static_cast<size_t>(shape.layers * pool->slots() * shape.heads_v * shape.dim_v));
  pool->bytes = shape.pages * kv_page_bytes(shape);
  return pool;
}

int64_t ReferenceOps::kv_page_bytes(const KvShape& s) const {
  const int64_t row = int64_t{s.heads_k} * s.dim_k + int64_t{s.heads_v} * s.dim_v;
  return int64_t{s.layers} * s.page_size * row * static_cast<int64_t>(sizeof(float));
}

void ReferenceOps::kv_write(OpContext&, KvPool& pool, int32_t layer, Matrix k, Matrix v, const KvSlots& to) {
  const IndexArray& slots = to.slots;
  auto& p = const_cast<ReferenceKvPool&>(as_reference(&pool));
  check(k.rows == slots.size && v.rows == slots.size, "kv_write: T of k, v and slots");
  check(k.cols == p.shape.heads_k * p.shape.dim_k, "kv_write: Hk * Dk of k and the pool");
  check(v.cols == p.shape.heads_v * p.shape.dim_v, "kv_write: Hv * Dv of v and the pool");
  const auto write = [&](Matrix m, int64_t t, float* row) {
    for (int64_t i = 0; i < m.cols; ++i) {
      const float value = load_f32(m.data, m.dtype, t * m.row_stride + i);
      row[i] = compute_ == DType::kBF16 ? bf16_to_f32(f32_to_bf16(value)) : value;
    }
  };
  for (int64_t t = 0; t < slots.size; ++t) {
    if (slots.host[t] == -1) continue;
    check(slots.host[t] >= 0 && slots.host[t] < p.slots(), "kv_write: slot outside the pool");
    write(k, t, p.k_row(layer, slots.host[t]));
    write(v, t, p.v_row(layer, slots.host[t]));
  }
}

void ReferenceOps::kv_read(OpContext&, const KvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
                           Matrix v) {
  const IndexArray& slots = from.slots;
  const ReferenceKvPool& p = as_reference(&pool);
  for (int64_t t = 0; t < slots.size; ++t) {
    check(slots.host[t] >= 0 && slots.host[t] < p.slots(), "kv_read: slot outside the pool");
    if (k.data != nullptr) store(k, t, p.k_row(layer, slots.host[t]));
    if (v.data != nullptr) store(v, t, p.v_row(layer, slots.host[t]));
  }
}

void ReferenceOps::attention(OpContext&, const AttentionArgs& args) {
  const ReferenceKvPool& pool = as_reference(args.pool);
  const KvShape& s = pool.shape;
  check(args.heads_q > 0 && args.heads_q % s.heads_k == 0 && args.heads_q % s.heads_v == 0,
        "attention: Hq must be a multiple of Hk and of Hv");
  check(args.q.cols == int64_t{args.heads_q} * s.dim_k, "attention: Hq * Dk of q");
  check(args.out.cols == int64_t{args.heads_q} * s.dim_v, "attention: Hq * Dv of out");
  std::vector<float> score;
  for (const Segment& segment : args.segments) {
    check(segment.q_begin >= 0 && segment.q_begin + segment.q_len <= args.q.rows, "attention: T of q");
    check(segment.kv_len <= int64_t{args.block_table.max_pages} * s.page_size, "attention: kv_len");
    const int32_t* pages =
        args.block_table.entries.host + int64_t{segment.block_table_row} * args.block_table.max_pages;
    const auto slot = [&](int32_t position) {
      return int64_t{pages[position / s.page_size]} * s.page_size + position % s.page_size;
    };
    for (int32_t i = 0; i < segment.q_len; ++i) {
      const int64_t t = segment.q_begin + i;
      const int32_t keys = segment.causal ? segment.kv_len - segment.q_len + i + 1 : segment.kv_len;
      score.resize(static_cast<size_t>(keys));
      for (int32_t h = 0; h < args.heads_q; ++h) {
        const float* q = args.q.f32(t) + h * s.dim_k;
        const int32_t head_k = h / (args.heads_q / s.heads_k);
        const int32_t head_v = h / (args.heads_q / s.heads_v);
        float max = -std::numeric_limits<float>::infinity();
        for (int32_t n = 0; n < keys; ++n) {
          const float* k = pool.k_row(args.layer, slot(n)) + head_k * s.dim_k;
          float dot = 0;
          for (int32_t d = 0; d < s.dim_k; ++d) dot += q[d] * k[d];
          score[static_cast<size_t>(n)] = dot * args.scale;
          max = std::max(max, score[static_cast<size_t>(n)]);
        }
        float sum = 0;
        for (float& p : score) sum += p = std::exp(p - max);
        float* out = args.out.f32(t) + h * s.dim_v;
        for (int32_t d = 0; d < s.dim_v; ++d) out[d] = 0;
        for (int32_t n = 0; n < keys; ++n) {
          const float* v = pool.v_row(args.layer, slot(n)) + head_v * s.dim_v;
          for (int32_t d = 0; d < s.dim_v; ++d) out[d] += score[static_cast<size_t>(n)] / sum * v[d];
        }
        if (args.lse_ln.data != nullptr) args.lse_ln.f32(t)[h] = max + std::log(sum);
      }
    }
  }
}

}  // namespace longspan
