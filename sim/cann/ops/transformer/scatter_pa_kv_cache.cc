#include "ops/transformer/scatter_pa_kv_cache.h"

#include <cstring>

#include "core/rows.h"

namespace cann_sim {
namespace {

constexpr DTypes kCached = {ACL_FLOAT16, ACL_BF16, ACL_INT8};

void check_pages(const Call& call, const View& rows, const View& cache, const View& slots) {
  call.rank(rows, 3, 3);
  call.rank(cache, 4, 4);
  call.same_dtype(rows, cache);
  call.require(rows.dim(0) == slots.dim(0), "{} has {} rows, slotMapping {}", rows.label, rows.dim(0),
               slots.dim(0));
  call.dims(cache, {cache.dim(0), cache.dim(1), rows.dim(1), rows.dim(2)});
  for (const View* view : {&rows, &cache}) call.contiguous(*view);
}

View by_slot(const View& cache) {
  return cache.reshaped({cache.dim(0) * cache.dim(1), cache.dim(2) * cache.dim(3)});
}

View by_token(const View& rows) {
  return rows.reshaped({rows.dim(0), rows.dim(1) * rows.dim(2)});
}

}  // namespace

void describe_page_scatter(Call& call, const PageScatter& s) {
  const View key = call.in("key", s.key, kCached), value = call.in("value", s.value, kCached);
  const View key_cache = call.in_out("keyCacheRef", s.key_cache, kCached);
  const View value_cache = call.in_out("valueCacheRef", s.value_cache, kCached);
  const View slots = call.in("slotMapping", s.slots, kIndices);
  call.absent("compressLens", s.compress_lens);
  call.absent("compressSeqOffset", s.compress_seq_offset);
  call.absent("seqLens", s.seq_lens);
  call.require(!s.cache_mode || std::strcmp(s.cache_mode, "Norm") == 0,
               "cacheMode '{}': the simulator knows 'Norm' only", s.cache_mode ? s.cache_mode : "");
  call.rank(slots, 1, 1);
  call.contiguous(slots);
  check_pages(call, key, key_cache, slots);
  check_pages(call, value, value_cache, slots);
  call.require(key_cache.dim(0) == value_cache.dim(0) && key_cache.dim(1) == value_cache.dim(1),
               "keyCacheRef {} and valueCacheRef {} must have as many slots", text_of(key_cache.dims),
               text_of(value_cache.dims));
  call.moves(static_cast<uint64_t>(2 * (key.bytes() + value.bytes()) + slots.bytes()));
  call.run([=] {
    scatter_rows(by_token(key), slots, by_slot(key_cache));
    scatter_rows(by_token(value), slots, by_slot(value_cache));
  });
}

}  // namespace cann_sim
