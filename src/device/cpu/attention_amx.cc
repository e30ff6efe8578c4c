#include "device/cpu/attention_bf16_rows.h"
#include "device/cpu/attention_rows.h"

namespace longspan {
namespace {

/// Attention on AMX tiles of bf16. A unit of work is a strip of 32 rows against a block of 256 keys: scores
/// (tiles), softmax (vectors), weighted sum (tiles). The tile unit works beside the vector units, so three
/// units are under way at once: between the softmax rows of one, the weighted sum of the unit before and the
/// scores of the unit after are issued step by step.
using V = Vec16;
using Softmax = RowSoftmax<V, Bf16Weights>;

constexpr int32_t kMaxRows = 512;
constexpr int32_t kTileRows = 16;
constexpr int32_t kStripRows = 2 * kTileRows;
constexpr int64_t kTileBytes = kTileRows * kLineBytes;
constexpr int32_t kRing = 3;  // units under way
// Rows are a line longer than they need be, so that the rows of a tile fall into different sets of the cache.
constexpr int64_t kScoreStride = KeyBlock::kKeys + 16;
constexpr int64_t kWeightStride = KeyBlock::kKeys + 32;
constexpr int64_t query_stride(int32_t dk) {
  return dk + 32;
}

struct Scratch {
  uint16_t* q;      // [kMaxRows, query_stride]
  float* s[2];      // [kStripRows, kScoreStride] base 2
  uint16_t* p[2];   // [kStripRows, kWeightStride]
  float* decay[2];  // [kStripRows]
  float* sums;      // [kMaxRows, 16]
  char* v[kRing];   // a block's V where panels of a page can't be paired
  int64_t bytes;
};

constexpr int64_t kVColumnBytes = KeyBlock::kKeys / 2 * kLineBytes;

Scratch layout(char* base, int32_t dk, int32_t dv) {
  Scratch s{};
  int64_t used = 0;
  const auto take = [&](int64_t bytes) {
    char* result = base + used;
    used += round_up_bytes(bytes);
    return result;
  };
  s.q = reinterpret_cast<uint16_t*>(take(kMaxRows * query_stride(dk) * 2));
  s.sums = reinterpret_cast<float*>(take(kMaxRows * kPanelKeys * 4));
  for (int32_t i = 0; i < 2; ++i) {
    s.s[i] = reinterpret_cast<float*>(take(kStripRows * kScoreStride * 4));
    s.p[i] = reinterpret_cast<uint16_t*>(take(kStripRows * kWeightStride * 2));
    s.decay[i] = reinterpret_cast<float*>(take(kStripRows * 4));
  }
  for (int32_t i = 0; i < kRing; ++i) {
    s.v[i] = take(round_up(dv, kPanelKeys) / kPanelKeys * kVColumnBytes);
  }
  s.bytes = used;
  return s;
}

int64_t scratch_bytes(int32_t dk, int32_t dv) {
  return layout(nullptr, dk, dv).bytes;
}

void pack_queries(const AttentionTile& tile, void* scratch) {
  uint16_t* packed = layout(static_cast<char*>(scratch), tile.dk, tile.dv).q;
  for (int32_t i = 0; i < tile.queries; ++i) {
    for (int32_t h = 0; h < tile.heads; ++h) {
      pack_bf16_row(tile.q + i * tile.q_stride + static_cast<int64_t>(h) * tile.dk, tile.dk, tile.scale_log2,
                    packed);
      packed += query_stride(tile.dk);
    }
  }
}

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Tiles 0..3 sum up [2 x 16 rows] x [2 x 16 columns]; 4 and 5 hold the rows' operand, 6 and 7 the columns'.
/// With `tall` false there is one tile of rows, with `wide` false one of columns.
inline void multiply(const void* a, int64_t a_stride, const char* b0, const char* b1, bool tall, bool wide) {
  _tile_loadd(4, a, a_stride);
  _tile_loadd(6, b0, kLineBytes);
  _tile_dpbf16ps(0, 4, 6);
  if (wide) {
    _tile_loadd(7, b1, kLineBytes);
    _tile_dpbf16ps(1, 4, 7);
  }
  if (tall) {
    _tile_loadd(5, static_cast<const char*>(a) + kTileRows * a_stride, a_stride);
    _tile_dpbf16ps(2, 5, 6);
    if (wide) _tile_dpbf16ps(3, 5, 7);
  }
}

inline void store_sums(float* to, int64_t stride_bytes, bool tall, bool wide) {
  char* lower = reinterpret_cast<char*>(to) + kTileRows * stride_bytes;
  _tile_stored(0, to, stride_bytes);
  if (wide) _tile_stored(1, to + 16, stride_bytes);
  if (tall) _tile_stored(2, lower, stride_bytes);
  if (tall && wide) _tile_stored(3, lower + kLineBytes, stride_bytes);
}

inline void load_sums(const float* from, int64_t stride_bytes, bool tall, bool wide) {
  const char* lower = reinterpret_cast<const char*>(from) + kTileRows * stride_bytes;
  _tile_loadd(0, from, stride_bytes);
  if (wide) _tile_loadd(1, from + 16, stride_bytes);
  if (tall) _tile_loadd(2, lower, stride_bytes);
  if (tall && wide) _tile_loadd(3, lower + kLineBytes, stride_bytes);
}

/// S[32, panels * 16] = Q[32, dk] K, a 32 x 32 x 32 multiply a step.
struct ScoreSteps {
  const uint16_t* q = nullptr;
  int64_t q_stride = 0;
  const KeyBlock* block = nullptr;
  float* s = nullptr;
  bool tall = false;
  int32_t depth = 0, left = 0;  // steps of 32 dims a panel pair; steps left in all
  int32_t panel = 0, d = 0;

  void step() {
    if (d == 0) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    multiply(q + d * 32, q_stride * 2, block->k[panel] + d * kTileBytes, block->k[panel + 1] + d * kTileBytes,
             tall, true);
    if (++d == depth) {
      store_sums(s + panel * kPanelKeys, kScoreStride * 4, tall, true);
      d = 0;
      panel += 2;
    }
    --left;
  }
};

/// O[32, D16 * 16] += P[32, panels * 16] V, 32 keys and 32 columns a step.
struct SumSteps {
  const uint16_t* p = nullptr;
  const KeyBlock* block = nullptr;
  float* o = nullptr;
  int32_t columns = 0;  // D16 * 16
  bool tall = false;
  int32_t left = 0;
  int32_t panel = 0, column = 0;

  void step() {
    const bool wide = column + 32 <= columns;
    if (panel == 0) load_sums(o + column, columns * 4, tall, wide);
    const char* v = block->v[panel] + column / 16 * block->v_column_bytes;
    multiply(p + panel * kPanelKeys, kWeightStride * 2, v, v + block->v_column_bytes, tall, wide);
    panel += 2;
    if (panel == block->panels) {
      store_sums(o + column, columns * 4, tall, wide);
      panel = 0;
      column += 32;
    }
    --left;
  }
};

/// A tile of V takes 32 keys: panels are used in pairs. Where a page has an odd number of them, V is copied
/// so that pairs are contiguous. Panels that complete a pair are masked, so they change no row.
void find_pairs(const AttentionTile& tile, int32_t begin, int32_t end, char* space, KeyBlock& block) {
  const bool paired = tile.page_panels % 2 == 0;
  find_panels(tile, begin, paired ? round_up(end, 2) : end, block);
  if (paired) return;
  constexpr int32_t kPanelLines = kPanelKeys / 2;
  const int32_t columns = round_up(tile.dv, kPanelKeys) / kPanelKeys;
  for (int32_t i = 0; i < round_up(block.panels, 2); ++i) {
    for (int32_t c = 0; c < columns; ++c) {
      char* to = space + c * kVColumnBytes + i * kPanelLines * kLineBytes;
      for (int32_t line = 0; line < kPanelLines; ++line) {
        const __m512i x = i < block.panels
                              ? _mm512_load_si512(block.v[i] + c * block.v_column_bytes + line * kLineBytes)
                              : _mm512_setzero_si512();
        _mm512_store_si512(to + line * kLineBytes, x);
      }
    }
  }
  for (int32_t i = 0; i < block.panels; ++i) block.v[i] = space + i * kPanelLines * kLineBytes;
  block.v_column_bytes = kVColumnBytes;
  if (block.panels % 2 == 1) {
    const int32_t last = block.panels++;
    block.k[last] = block.k[last - 1];
    block.v[last] = space + last * kPanelLines * kLineBytes;
    block.position[last] = block.end;
    block.count[last] = 0;
    block.whole = false;
  }
}

class Chunk {
 public:
  Chunk(const AttentionTile& tile, int32_t chunk, const Scratch& scratch, PartialRows part)
      : tile_(tile), scratch_(scratch), part_(part) {
    rows_ = tile.queries * tile.heads;
    columns_ = round_up(tile.dv, kPanelKeys);
    strips_ = (rows_ + kStripRows - 1) / kStripRows;
    first_panel_ = chunk * kChunkPanels;
    last_panel_ = at_most(first_panel_ + kChunkPanels, panels_up_to(tile, limit_of(tile, tile.queries - 1)));
    const int32_t panels = last_panel_ > first_panel_ ? last_panel_ - first_panel_ : 0;
    units_ = (panels + KeyBlock::kPanels - 1) / KeyBlock::kPanels * strips_;
  }

  void run() {
    if (units_ == 0) return;
    start_scores(0);
    while (scores_.left > 0) scores_.step();
    for (int32_t unit = 0; unit < units_; ++unit) {
      if (unit + 1 < units_) start_scores(unit + 1);
      weigh(unit);
      start_sums(unit);
    }
    while (sums_.left > 0) sums_.step();
  }

 private:
  const KeyBlock& block_of(int32_t unit) const { return blocks_[unit / strips_ % kRing]; }
  int32_t first_row(int32_t unit) const { return unit % strips_ * kStripRows; }
  int32_t strip_rows(int32_t unit) const { return at_most(kStripRows, rows_ - first_row(unit)); }

  void start_scores(int32_t unit) {
    if (unit % strips_ == 0) {
      const int32_t block = unit / strips_, begin = first_panel_ + block * KeyBlock::kPanels;
      find_pairs(tile_, begin, at_most(begin + KeyBlock::kPanels, last_panel_), scratch_.v[block % kRing],
                 blocks_[block % kRing]);
    }
    scores_ = {};
    scores_.q_stride = query_stride(tile_.dk);
    scores_.q = scratch_.q + first_row(unit) * scores_.q_stride;
    scores_.block = &block_of(unit);
    scores_.s = scratch_.s[unit % 2];
    scores_.tall = strip_rows(unit) > kTileRows;
    scores_.depth = tile_.dk / 32;
    scores_.left = scores_.depth * scores_.block->panels / 2;
  }

  /// The softmax of a unit, row by row, with tile steps between the rows.
  void weigh(int32_t unit) {
    const int32_t rows = strip_rows(unit), first = first_row(unit), slot = unit % 2;
    const int32_t steps = sums_.left + scores_.left;
    const int32_t pauses =
        rows * ((block_of(unit).panels + Softmax::kPanelsBetween - 1) / Softmax::kPanelsBetween);
    int32_t paused = 0, issued = 0;
    const auto tile_steps = [&] {
      ++paused;
      for (; issued * pauses < steps * paused; ++issued) {
        if (sums_.left > 0) {
          sums_.step();
        } else {
          scores_.step();
        }
      }
    };
    int32_t query = first / tile_.heads, head = first % tile_.heads;
    for (int32_t r = 0; r < rows; ++r) {
      prefetch(unit, r, rows);
      const int32_t row = first + r;
      Softmax::run(block_of(unit), limit_of(tile_, query), scratch_.s[slot] + r * kScoreStride,
                   scratch_.p[slot] + r * kWeightStride,
                   {part_.max_log2 + row, scratch_.decay[slot] + r, scratch_.sums + row * kPanelKeys},
                   tile_steps);
      if (++head == tile_.heads) {
        head = 0;
        ++query;
      }
    }
  }

  /// The next block's K and V come into L2 while this one is worked on: each row of a unit asks for
  /// some lines of the unit's share of panels.
  void prefetch(int32_t unit, int32_t r, int32_t rows) {
    const int32_t strip = unit % strips_;
    const int32_t begin = first_panel_ + (unit / strips_ + 1) * KeyBlock::kPanels;
    if (begin >= last_panel_) return;
    if (strip == 0 && r == 0)
      find_panels(tile_, begin, at_most(begin + KeyBlock::kPanels, last_panel_), ahead_);
    const int32_t share = (KeyBlock::kPanels + strips_ - 1) / strips_;
    const int32_t end = at_most((strip + 1) * share, ahead_.panels);
    for (int32_t panel = strip * share; panel < end; ++panel) {
      const int32_t k_lines = tile_.dk / 2, v_lines = columns_ / 2;
      for (int32_t line = k_lines * r / rows; line < k_lines * (r + 1) / rows; ++line) {
        _mm_prefetch(ahead_.k[panel] + line * kLineBytes, _MM_HINT_T1);
      }
      for (int32_t line = v_lines * r / rows; line < v_lines * (r + 1) / rows; ++line) {
        const char* v = ahead_.v[panel] + (line >> 3) * ahead_.v_column_bytes;
        _mm_prefetch(v + (line & 7) * kLineBytes, _MM_HINT_T1);
      }
    }
  }

  void start_sums(int32_t unit) {
    float* o = part_.out + static_cast<int64_t>(first_row(unit)) * columns_;
    for (int32_t r = 0; r < strip_rows(unit); ++r) {
      const float decay = scratch_.decay[unit % 2][r];
      if (decay == 1.0f) continue;
      for (int32_t c = 0; c < columns_; c += V::kWidth) {
        float* x = o + r * static_cast<int64_t>(columns_) + c;
        V::store(x, V::mul(V::load(x), V::set1(decay)));
      }
    }
    sums_ = {};
    sums_.p = scratch_.p[unit % 2];
    sums_.block = &block_of(unit);
    sums_.o = o;
    sums_.columns = columns_;
    sums_.tall = strip_rows(unit) > kTileRows;
    sums_.left = round_up(columns_, 32) / 32 * sums_.block->panels / 2;
  }

  const AttentionTile& tile_;
  const Scratch& scratch_;
  PartialRows part_;
  int32_t rows_, columns_, strips_, first_panel_, last_panel_, units_;
  KeyBlock blocks_[kRing];
  KeyBlock ahead_;  // the block after
  ScoreSteps scores_;
  SumSteps sums_;
};

void reduce_chunk(const AttentionTile& tile, int32_t chunk, void* scratch, PartialRows part) {
  const Scratch s = layout(static_cast<char*>(scratch), tile.dk, tile.dv);
  const int32_t rows = tile.queries * tile.heads;
  PartialOps<V>::clear(part, rows, round_up(tile.dv, kPanelKeys));
  for (int32_t i = 0; i < rows * kPanelKeys; ++i) s.sums[i] = 0.0f;

  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
  Chunk(tile, chunk, s, part).run();
  _tile_release();
  for (int32_t r = 0; r < rows; ++r) part.sum[r] = sum_lanes(s.sums + r * kPanelKeys);
}

}  // namespace

const TileKernel kAmxKernel = {kMaxRows,     scratch_bytes,        pack_queries,
                               reduce_chunk, PartialOps<V>::merge, PartialOps<V>::finish};

}  // namespace longspan
