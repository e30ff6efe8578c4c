#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/arena.h"
#include "plan/segment.h"
#include "tensor/matrix.h"

namespace longspan {

/// The op contracts. One reference (device/reference), one implementation per device.
///
/// Letters: T rows of this rank in this step; H hidden; Hq, Hk, Hv query/key/value heads; Dk, Dv head dims
/// (Dk of queries and keys); I width of an MLP; E experts; k experts chosen per row; V vocabulary.
/// Activations are f32 matrices; weights and KV are in the compute dtype of the device's Ops, products
/// accumulate in f32. The caller owns all outputs; scratch comes from `OpContext::arena` and is gone when the
/// op returns. Shapes are checked at entry (Error kInternal names the symbol).

/// int32 indices: `host` for planning and lengths, `device` for kernels. On a CPU both are the same array.
struct IndexArray {
  const int32_t* host = nullptr;
  const int32_t* device = nullptr;
  int64_t size = 0;
  std::shared_ptr<const void> owner = nullptr;  // keeps `host`, where the arena does not

  IndexArray slice(int64_t begin, int64_t count) const {
    return {host + begin, device ? device + begin : nullptr, count, owner};
  }
};

/// Integers of a step that the host has ready where a device copies them from.
struct StagedIndices {
  std::shared_ptr<const int32_t[]> host = nullptr;
  int64_t size = 0;
};

/// Integers, and the form in which a device's kernels take them; where there is one, the integers themselves
/// are read on the host alone.
struct StagedForms {
  StagedIndices values, form;
};
struct IndexForms {
  IndexArray values, form;
};

/// A rank's queue on a device whose ops only enqueue: they run in order, later.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Until everything enqueued is done.
  virtual void wait() = 0;

  /// A place in this stream's order, behind what is enqueued now, for other streams of the device.
  using Mark = void*;
  /// Two marks take turns: the third call moves the first one's.
  virtual Mark mark() = 0;
  /// What is enqueued on this stream from here on runs after what lies before another's `mark`.
  virtual void after(Mark mark) = 0;
};

struct OpContext {
  Arena& arena;
  int threads = 1;           // cores this rank's ops may use
  Stream* stream = nullptr;  // null on a device whose ops are done when they return

  /// Before another rank relies on what this one has enqueued, and at the end of a step.
  void wait() const {
    if (stream) stream->wait();
  }
};

/// kCompute multiplies as the Ops were made: in their compute dtype, or int8 where they quantise.
/// kUnquantized is the compute dtype even then (lm_head). kF32 keeps the weight and the product in f32
/// whatever the compute dtype (routers: a rounded logit changes which experts run).
///
/// int8: a weight row w becomes round(w / s) with s = max|w| / 127, a row x of activations likewise with a
/// scale of its own, rounded to nearest even; a row without any |value| >= kLeastQuantized is all zeros, one
/// with an infinity or NaN has the scale NaN. Sums are exact integers, y = float(sum) * (s_x * s_w), and a
/// bias is added in f32. SwiGLU's row is quantised whole for `down`.
enum class LinearPrecision { kCompute, kUnquantized, kF32 };

/// A weight prepared for multiplying: y = x W^T + b, W [out, in].
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  int64_t out_features = 0;
  int64_t in_features = 0;
  int64_t bytes = 0;  // resident, packed
};

/// Rows that `embedding` picks from, [V, H] as the checkpoint stores them.
class EmbeddingTable {
 public:
  explicit EmbeddingTable(WeightView table) : view(table) {}
  virtual ~EmbeddingTable() = default;
  WeightView view;    // in host memory
  int64_t bytes = 0;  // resident beside it
};

/// Experts first_expert .. first_expert + count - 1 of one layer, prepared for the grouped multiply.
class ExpertWeights {
 public:
  virtual ~ExpertWeights() = default;
  int64_t hidden = 0;
  int64_t width = 0;  // I
  int32_t first_expert = 0;
  int32_t count = 0;
  int32_t of_layer = 0;  // experts that the layer has in all; 0: first_expert + count
  int64_t bytes = 0;
};

/// One expert as a checkpoint holds it: gate and up [I, H], down [H, I].
struct ExpertSource {
  WeightView gate, up, down;
};

using ExpertPacked = std::function<void(size_t)>;

struct KvShape {
  int32_t layers = 0;
  int32_t pages = 0;      // page 0 is never handed out
  int32_t page_size = 0;  // tokens
  int32_t heads_k = 0, dim_k = 0;
  int32_t heads_v = 0, dim_v = 0;
  int32_t heads_q = 0;  // that will attend to them; 0: as many as heads_k
};

/// Pages of K and V for every layer on one device. The layout within a page is the device's own affair;
/// rows [K | V] are the wire form (kv_write, kv_read). Memory is reserved, zeroed, and touched on first
/// write.
class KvPool {
 public:
  virtual ~KvPool() = default;
  KvShape shape;
  DType dtype = DType::kBF16;  // of the rows; also their wire form between ranks
  int64_t bytes = 0;           // reserved
};

/// Physical pages of each sequence: entries [rows, max_pages] int32, row-major. A device that needs them in
/// its own memory copies the rows that it needs.
struct BlockTable {
  IndexArray entries;  // read on the host alone
  int32_t rows = 0;
  int32_t max_pages = 0;
};

/// Where rows of K and V go, or come from.
struct KvSlots {
  KvSlots(IndexArray of_rows = {}, IndexArray as_staged = {})
      : slots(std::move(of_rows)), places(std::move(as_staged)) {}
  KvSlots(IndexForms both) : KvSlots(std::move(both.values), std::move(both.form)) {}

  /// [n] page * page_size + offset; -1: nowhere. Read on the host alone where there are places.
  IndexArray slots;
  /// Ops::stage_places of them, uploaded; empty: the op makes them.
  IndexArray places;

  /// Where no slot is -1.
  KvSlots slice(int64_t begin, int64_t count) const {
    const int64_t of_each = slots.size > 0 ? places.size / slots.size : 0;
    return {slots.slice(begin, count), places.slice(begin * of_each, count * of_each)};
  }
};

struct AttentionArgs {
  Matrix q;  // [T, Hq * Dk] f32, or inner_dtype()
  const KvPool* pool = nullptr;
  int32_t layer = 0;
  std::span<const Segment> segments;  // of rows of q outside them `out` and `lse_ln` mean nothing afterwards
  BlockTable block_table;
  IndexArray segment_pages = {};  // Ops::stage_pages of both, uploaded; empty: the op makes them
  int32_t heads_q = 0;
  float scale = 0;     // multiplies q.k before the softmax
  Matrix out;          // [T, Hq * Dv] f32, or inner_dtype(); may be q where Dk = Dv
  Matrix lse_ln = {};  // optional f32 [T, Hq]: natural log of the sum of exp(scale * q.k)
};

/// Attention over parts of the keys, put together. N rows of partial results of any query rows; n parts.
struct MergeArgs {
  Matrix partials;        // f32 [N, Hq * Dv] attention over some keys
  Matrix lse_ln;          // f32 [N, Hq] as attention gives it; where it is -inf, the partial is not read
  IndexArray rows;        // [n, T] row of `partials` that is part i of row t; -1: it has none. Read on the
                          // host alone where there are `parts`
  IndexArray parts = {};  // Ops::stage_parts of them, uploaded; empty: the op makes them
  int32_t heads_q = 0;
  Matrix out;  // f32 or inner_dtype() [T, Hq * Dv]; may be the first T partials where row t is part 0 of
               // row t alone
  Matrix out_lse_ln = {};  // optional f32 [T, Hq], over all parts; may be rows of lse_ln likewise
};

/// Rows of a rope table that the host has computed.
struct RopeRows {
  std::shared_ptr<const char> data = nullptr;  // f32 [rows, rope_cols(D)] in the device's order; null: none
  int64_t rows = 0;
};

struct QkNormRopeArgs {
  Matrix x;  // [T, heads * D] f32, or inner_dtype(); in place
  int32_t heads = 0;
  int32_t head_dim = 0;                // D
  const float* norm_weight = nullptr;  // [D], resident: RMS norm per head before rotation; or null
  float eps = 0;
  Matrix cos_sin = {};  // f32 [T, rope_cols(D)], from rope_table; data null: no rotation
};

struct QkvArgs {
  Matrix qkv;  // [T, (Hq + 2 Hk) * D] f32, or inner_dtype(): queries, keys, values of one multiply
  int32_t heads_q = 0, heads_kv = 0;
  int32_t head_dim = 0;               // D
  const float* q_norm = nullptr;      // [D], resident; both or neither
  const float* k_norm = nullptr;      // [D]
  const float* heads_norm = nullptr;  // [(Hq + Hk) * D] each head's own, resident; where separates_qkv()
  float eps = 0;
  Matrix cos_sin;
  Matrix q, kv;  // [T, Hq * D] and [T, 2 Hk * D]: columns of qkv, or apart without gaps where separates_qkv()
};

class Ops {
 public:
  virtual ~Ops() = default;

  /// For people and --json: device, instruction set and arithmetic, e.g. "cpu avx512_bf16 bf16".
  virtual std::string name() const = 0;

  /// Of what only multiplies, attention and activations read and write: queries, keys, values, and the inner
  /// rows of an MLP. kF32, or on a device whose operators take and give another dtype, that one: there
  /// `linear` (x; out unless added to), qk_norm_rope, kv_write, kv_read, attention (q, out), merge_partials
  /// (out), gather_rows and swiglu take both.
  virtual DType inner_dtype() const { return DType::kF32; }
  /// Rows that a norm and the multiply behind it should take at a time, so that what lies between stays in
  /// cache and the multiply reaches its peak rate.
  virtual int64_t norm_rows() const { return 2048; }

  // Weights, prepared once. Views need to live only until the call returns, except make_embedding's.

  /// The view must outlive the result. As it stands: for devices that read host memory.
  virtual std::unique_ptr<EmbeddingTable> make_embedding(WeightView table);
  /// A norm's weights where kernels read them. As it stands: a copy in host memory.
  virtual std::shared_ptr<const float[]> resident(std::span<const float> values);
  /// Weights stacked along their output rows (q, k and v make one multiply); biases is empty or has one view
  /// [1, out_i] (data null: none) per weight.
  virtual std::unique_ptr<LinearWeight> pack_linear(std::span<const WeightView> stacked,
                                                    std::span<const WeightView> biases,
                                                    LinearPrecision precision) = 0;
  /// Calls `packed(i)`, where not null, once experts[i] is not read any more.
  virtual std::unique_ptr<ExpertWeights> pack_experts(std::span<const ExpertSource> experts,
                                                      int32_t first_expert, const ExpertPacked& packed) = 0;
  /// Bytes that pack_linear / pack_experts would keep resident, without doing it.
  virtual int64_t packed_linear_bytes(int64_t out_features, int64_t in_features,
                                      LinearPrecision precision = LinearPrecision::kCompute) const = 0;
  virtual int64_t packed_expert_bytes(int64_t hidden, int64_t width) const = 0;
  /// EmbeddingTable::bytes of a table stored in this dtype.
  virtual int64_t embedding_bytes(int64_t, int64_t, DType) const { return 0; }

  /// Throws Error(kCapacity) where the memory can't be reserved.
  virtual std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape) = 0;
  virtual int64_t kv_page_bytes(const KvShape& shape) const = 0;  // one page over all layers, K and V

  // Integers of a step. They are staged on any thread, before the step if need be.

  /// As it stands: a copy in host memory.
  virtual StagedIndices stage(std::span<const int32_t> values);
  /// What the kernels of kv_write and kv_read take for `slots` of this pool. As it stands: none beside the
  /// slots.
  virtual StagedIndices stage_places(const KvPool&, std::span<const int32_t>) { return {}; }
  /// What attention's kernels take for segments and the pages of their sequences. As it stands: none.
  virtual StagedIndices stage_pages(std::span<const Segment>, const BlockTable&) { return {}; }
  /// What the kernels of merge_partials take for MergeArgs::rows of T rows. As it stands: none beside them.
  virtual StagedIndices stage_parts(std::span<const int32_t>, int64_t) { return {}; }
  /// To where kernels read them; they live in the context's arena, or in the result. As it stands: where they
  /// are.
  virtual IndexArray upload_staged(OpContext& ctx, const StagedIndices& staged);
  IndexArray upload(OpContext& ctx, std::span<const int32_t> values) {
    return upload_staged(ctx, stage(values));
  }
  /// `form`: what one of the three above made of the values.
  StagedForms stage_both(std::span<const int32_t> values, StagedIndices form);
  IndexForms upload_both(OpContext& ctx, const StagedForms& staged);
  /// Device rows to host f32, row-major without gaps; waits for everything enqueued before it.
  virtual void download(OpContext& ctx, Matrix src, std::span<float> dst) = 0;

  /// out[t] = table[ids[t]] as f32.
  virtual void embedding(OpContext& ctx, IndexArray ids, const EmbeddingTable& table, Matrix out) = 0;
  /// out = x / sqrt(mean(x^2) + eps) * weight; weight f32 [H], resident; out may be x.
  virtual void rms_norm(OpContext& ctx, Matrix x, const float* weight, float eps, Matrix out) = 0;
  /// out = x W^T + b, or out += x W^T + b. x [T, in], out [T, out].
  virtual void linear(OpContext& ctx, Matrix x, const LinearWeight& w, Matrix out, bool accumulate) = 0;
  /// Columns of a rope table of head dim D. As it stands: D/2 cosines, then D/2 sines of each row.
  virtual int64_t rope_cols(int64_t head_dim) const { return head_dim; }
  /// cos_sin [T, rope_cols(D)] for rotary embedding: angle = position * inv_freq[i] in f32, both scaled by
  /// `factor`. What lies where in it is the device's own affair.
  virtual void rope_table(OpContext& ctx, IndexArray positions, std::span<const float> inv_freq, float factor,
                          Matrix cos_sin) = 0;
  /// What the host computes of rope_table, where it does: on any thread, at any time before. As it stands:
  /// none.
  virtual RopeRows rope_rows(std::span<const int32_t>, std::span<const float>, float) { return {}; }
  /// rope_table from what rope_rows gave, which was not none.
  virtual void upload_rope(OpContext& ctx, const RopeRows& made, Matrix cos_sin);
  /// Rotation pairs element i with i + D/2 of a head ("rotate half", as Hugging Face stores weights).
  virtual void qk_norm_rope(OpContext& ctx, const QkNormRopeArgs& args) = 0;
  /// qk_norm_rope of queries and of keys, together. As it stands: one after the other, in place.
  virtual void qkv_norm_rope(OpContext& ctx, const QkvArgs& args);
  /// Whether qkv_norm_rope takes the three apart as it goes.
  virtual bool separates_qkv() const { return false; }
  /// Row t of k [T, Hk*Dk] and v [T, Hv*Dv], f32 or in the pool's dtype, goes to to.slots[t] = page *
  /// page_size + offset of `layer`, or nowhere where that is -1. Rows of different ranks may be written at
  /// the same time if their slots differ.
  virtual void kv_write(OpContext& ctx, KvPool& pool, int32_t layer, Matrix k, Matrix v,
                        const KvSlots& to) = 0;
  /// And from there; no slot is -1.
  virtual void kv_read(OpContext& ctx, const KvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
                       Matrix v) = 0;
  /// Rows at slots from[i] to slots to[i], in every layer of the pool, to the bit. No slot is in both.
  virtual void kv_copy(OpContext& ctx, KvPool& pool, std::span<const int32_t> from,
                       std::span<const int32_t> to);
  /// Grouped-query attention over pages; keys are reduced page by page from 0, whatever the segments. A row
  /// that sees no key gets zeros and lse_ln -inf.
  virtual void attention(OpContext& ctx, const AttentionArgs& args) = 0;
  /// out[t] = sum over parts i, in ascending order, of exp(lse_i - lse) * partial_i, lse = ln(sum of
  /// exp(lse_i)), each head by itself: what attention over the keys of all parts gives. Without parts: zeros,
  /// -inf, or Error(kInternal) on a device whose ops only enqueue.
  virtual void merge_partials(OpContext& ctx, const MergeArgs& args) = 0;
  /// Whether this device has merge_partials; else it throws Error(kNotSupported).
  virtual bool merges_partials() const { return true; }
  /// Parts of a row that merge_partials copies and merges at a time; then attention to parts of the keys
  /// takes scratch for what it makes, too. 0: neither does.
  virtual int32_t merged_at_once() const { return 0; }
  /// Throws Error(kNotSupported) with the reason where attention to parts of the keys of such a pool can't be
  /// merged, or, as a small problem shows, comes out wrong. May wait for the device.
  /// As it stands: the first alone.
  virtual void check_partials(const KvShape& shape);
  /// out[t, i] = silu(gate_up[t, i]) * gate_up[t, I + i].
  virtual void swiglu(OpContext& ctx, Matrix gate_up, Matrix out) = 0;
  /// softmax over logits [T, E], then the k largest (ties to the lowest expert id) in descending order:
  /// ids i32 [T, k], weights f32 [T, k], divided by their sum if `normalize`.
  virtual void moe_route(OpContext& ctx, Matrix logits, bool normalize, Matrix ids, Matrix weights) = 0;
  /// out[t] += sum over j of weights[t, j] * expert(ids[t, j])(x[t]); ids outside `experts` add nothing.
  /// Rows are grouped per expert; a row's experts are summed in ascending order of j.
  virtual void moe_experts(OpContext& ctx, Matrix x, Matrix ids, Matrix weights, const ExpertWeights& experts,
                           Matrix out) = 0;
  /// out[t] += (the sum over parts i, in ascending order, of partials[rows[i, t]]): what experts elsewhere
  /// have made of row t. partials f32 [N, H]; rows [n, T], -1: the part has nothing of row t. out is touched
  /// where there is a part.
  virtual void moe_combine(OpContext& ctx, Matrix partials, IndexArray rows, Matrix out) = 0;
  /// Whether this device has moe_combine; else it throws Error(kNotSupported).
  virtual bool combines_experts() const { return true; }
  /// Throws Error(kNotSupported) with the reason where ExpertWeights of a part of a layer's experts can't be
  /// multiplied by.
  virtual void check_split_experts() const {}
  /// out[t] += sigmoid(gate[t, 0]) * y[t] (the shared expert of Qwen2-MoE).
  virtual void add_gated(OpContext& ctx, Matrix gate, Matrix y, Matrix out) = 0;
  /// out += y.
  virtual void add(OpContext& ctx, Matrix y, Matrix out) = 0;
  /// out = 0.
  virtual void clear(OpContext& ctx, Matrix out) = 0;
  /// dst = src in dst's dtype (f32, bf16), rounded to nearest even; strides may differ.
  virtual void convert(OpContext& ctx, Matrix src, Matrix dst) = 0;
  /// out[i] = x[rows[i]], of one dtype.
  virtual void gather_rows(OpContext& ctx, Matrix x, IndexArray rows, Matrix out) = 0;
  /// out[i, 0] = log_softmax(logits[i])[targets[i]], natural logarithm.
  virtual void log_softmax_at(OpContext& ctx, Matrix logits, IndexArray targets, Matrix out) = 0;
  /// out[i, 0] = ln(sum over j of exp(logits[i, j])).
  virtual void log_sum_exp(OpContext& ctx, Matrix logits, Matrix out) = 0;
};

}  // namespace longspan
