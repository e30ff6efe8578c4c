#pragma once

#include "device/ascend/aclnn_call.h"
#include "device/ascend/weights.h"

/// The ops of device/ops.h in operators of CANN. Activations are f32; products and attention take bf16 and
/// give bf16, so each is converted on its way in and out. Scratch is the caller's to release.
namespace longspan::ascend {

constexpr int64_t kMaskSide = 2048;  // of the mask that fused attention takes
constexpr int64_t kMostHeadDim = 1024;
constexpr int32_t kMostParts = 16;  // of one AttentionUpdate

bool is_dense(Matrix m);
/// to = from; strides and dtypes may differ.
void copy(const Launcher& on, Matrix from, Matrix to);
/// `m` itself where it has this dtype and no gaps, else a copy.
Matrix dense(const Launcher& on, Matrix m, DType dtype);
/// out += y; y may be bf16 where out is f32.
void add_to(const Launcher& on, Matrix y, Matrix out);
void fill_zero(const Launcher& on, Matrix out);

constexpr auto kMinusInfinity = static_cast<int32_t>(0xff800000);  // bits of an f32
/// f32 [rows, 1] whose bits these are, on the card.
Matrix column_of(const int32_t* bits, int64_t rows);

/// out = x W^T + b, or out += it.
void linear(const Launcher& on, Matrix x, const AscendLinear& w, Matrix out, bool accumulate);
void rms_norm(const Launcher& on, Matrix x, const float* weight, float eps, Matrix out);
void qk_norm_rope(const Launcher& on, const QkNormRopeArgs& args);
/// Queries and keys in one pass. `ones`: f32, at least as many as a head has elements.
void qkv_norm_rope(const Launcher& on, const QkvArgs& args, const float* ones);
void swiglu(const Launcher& on, Matrix gate_up, Matrix out);
void add_gated(const Launcher& on, Matrix gate, Matrix y, Matrix out);
/// out[i] = x[rows[i]], of one dtype.
void select_rows(const Launcher& on, Matrix x, const int32_t* rows, Matrix out);

/// Integers in pinned memory, and from there to the card.
StagedIndices stage(Card& card, std::span<const int32_t> values);
IndexArray upload(const Launcher& on, const StagedIndices& staged);

/// Rows of k and v to their slots of a layer, in one scatter. In pieces that divide both a row of K and one
/// of V a layer is one array: the pieces of all K rows, then those of all V rows. Places: i32 [n, pieces of
/// a row] of each row's pieces in it; where some have no slot, of the others alone, and then which those are.
void write_kv(const Launcher& on, const AscendKvPool& pool, int32_t layer, Matrix k, Matrix v,
              const KvSlots& to);
/// And from there, in one selection; k or v may be null.
void read_kv(const Launcher& on, const AscendKvPool& pool, int32_t layer, const KvSlots& from, Matrix k,
             Matrix v);
StagedIndices stage_places(Card& card, const AscendKvPool& pool, std::span<const int32_t> slots);
/// Each entry's row of the block table: i32 [entries, max_pages]; where some rows see no key, then what is
/// added to the log-sum-exp of each row, f32.
StagedIndices stage_pages(Card& card, std::span<const Segment> segments, const BlockTable& table);

/// One launch over all segments, which must be of one kind (causal or not); more than 4096 take several.
/// Batch entries are the segments, each with its sequence's row of the block table, and, where they are not
/// causal, the gaps between them: what is written there means nothing. `mask`: int8 [2048,
/// 2048], 1 above the diagonal. `halves_apart`: no launch has two segments of one sequence, so that a cut
/// batch takes two.
void attention(const Launcher& on, const AttentionArgs& args, const void* mask, bool halves_apart);
/// As Ops::merge_partials; partials must be finite, and every row has a part. Up to 16 parts are one launch
/// of the operator, more take their turns in order.
void merge_partials(const Launcher& on, const MergeArgs& args);
/// Of parts that some row has, i32 [n, T] rows of the partials: where a row lacks one, another of its own.
/// Then, where some do, what is added to the log-sum-exp of each, f32 [n, T].
StagedIndices stage_parts(Card& card, std::span<const int32_t> rows, int64_t count);
/// Small problems over such a pool: attention to a part of the keys of one row, and of several rows over
/// pages, with gaps and rows that see no key; two parts merged, and a row that lacks one. Throws
/// Error(kNotSupported) where the device does not give what the host computes.
void try_partials(Ops& ops, Card& card, const KvShape& shape);
/// Whether a release gets the halves of cut sequences in two launches, as AscendOptions::cp_launches says.
bool takes_two_launches(int32_t wanted, std::string_view version);
/// Throws Error(kNotSupported) with CANN's reason where fused attention refuses the pool's heads.
void check_fused_attention(Card& card, const AscendKvPool& pool, const void* mask);

/// Which MoeInitRouting is called. V3 where it is there, except for all of 128 experts of hidden size 2048
/// before CANN 8.5 (or where the release is unknown): CANN's own PyTorch plugin takes V2 there.
bool takes_routing_v3(const AclnnApi& ops, std::string_view version, int64_t experts, int64_t hidden);
void moe_route(const Launcher& on, Matrix logits, bool normalize, Matrix ids, Matrix weights);
void moe_experts(const Launcher& on, Matrix x, Matrix ids, Matrix weights, const AscendExperts& experts,
                 Matrix out);

/// For each row: the logit of `targets` (none: 0) and the log-sum-exp of the row, on the host. Waits.
struct RowScores {
  std::vector<float> target_logits, log_sums;
};
RowScores score_rows(const Launcher& on, Matrix logits, std::span<const int32_t> targets);

/// Rows to the host, without gaps. Waits.
void download(const Launcher& on, Matrix src, void* dst);

}  // namespace longspan::ascend
