#include "device/cpu/attention.h"

#include <omp.h>

#include <algorithm>
#include <numbers>
#include <tuple>
#include <vector>

#include "base/check.h"
#include "device/cpu/attention_tile.h"
#include "device/cpu/kv_pages.h"
#include "device/op_checks.h"

namespace longspan {
namespace {

/// Query rows of one segment that share a kv head, against all keys they see.
struct Item {
  AttentionTile tile;
  int32_t q_row;  // of query 0
  int32_t head;   // first query head
  int32_t sequence, kv_head;
  int32_t chunks;                  // that the last query reaches
  int64_t area;                    // rows times keys, masked ones left out
  std::vector<PartialRows> parts;  // one a chunk where the item is spread over threads
};

/// What a thread takes at a time: a whole item (chunk < 0) or one chunk of it.
struct Piece {
  int32_t item;
  int32_t chunk;
};

const TileKernel& kernel_for(Isa isa, DType kv, int32_t dk) {
  const bool bf16 = kv == DType::kBF16;
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kPortable:
      break;
    case Isa::kAvx2:
      return bf16 ? kAvx2Kernels.bf16 : kAvx2Kernels.f32;
    case Isa::kAvx512:
    case Isa::kAvx512Vnni:
      return bf16 ? kAvx512Kernels.bf16 : kAvx512Kernels.f32;
    case Isa::kAvx512Bf16:
      return bf16 ? kAvx512Bf16Kernel : kAvx512Kernels.f32;
    case Isa::kAmx:
      if (bf16) return dk % 32 == 0 ? kAmxKernel : kAvx512Bf16Kernel;
      return kAvx512Kernels.f32;
  }
#else
  check(isa == Isa::kPortable && dk > 0, "this build has portable kernels alone");
#endif
  return bf16 ? kPortableKernels.bf16 : kPortableKernels.f32;
}

class Planner {
 public:
  Planner(const AttentionArgs& args, const CpuKvPool& pool, const TileKernel& kernel, int threads)
      : args_(args), pool_(pool), tile_rows_(kernel.max_rows) {
    if (threads == 1) return;
    // Tall tiles read the keys less often, but every thread should find several.
    constexpr int64_t kMinRows = 32, kTilesPerThread = 4;
    int64_t rows = 0;
    for (const Segment& segment : args.segments) rows += int64_t{segment.q_len} * args.heads_q;
    const int64_t fair = rows / (kTilesPerThread * threads) / kMinRows * kMinRows;
    tile_rows_ = static_cast<int32_t>(std::clamp<int64_t>(fair, kMinRows, kernel.max_rows));
  }

  /// Items that read the same keys together, so that these stay in cache: the largest such group first, and
  /// its largest item first, so that small ones fill the gaps at the end.
  std::vector<Item> items() {
    for (const Segment& segment : args_.segments) {
      for (int32_t kv_head = 0; kv_head < pool_.shape.heads_k; ++kv_head) add_head(segment, kv_head);
    }
    std::vector<int64_t> area(static_cast<size_t>(args_.block_table.rows));  // of a kv head of each sequence
    for (const Item& item : items_) area[static_cast<size_t>(item.sequence)] += item.area;
    const auto key = [&](const Item& i) {
      return std::tuple(-area[static_cast<size_t>(i.sequence)], i.sequence, i.kv_head, -i.area);
    };
    std::stable_sort(items_.begin(), items_.end(),
                     [&](const Item& a, const Item& b) { return key(a) < key(b); });
    return std::move(items_);
  }

 private:
  void add_head(const Segment& segment, int32_t kv_head) {
    const int32_t group = args_.heads_q / pool_.shape.heads_k;
    for (int32_t h = 0; h < group; h += tile_rows_) {
      const int32_t heads = std::min(tile_rows_, group - h);
      const int32_t most = tile_rows_ / heads;
      const int32_t tiles = (segment.q_len + most - 1) / most;
      for (int32_t i = 0; i < tiles; ++i) {
        const int32_t begin = static_cast<int32_t>(static_cast<int64_t>(segment.q_len) * i / tiles);
        const int32_t end = static_cast<int32_t>(static_cast<int64_t>(segment.q_len) * (i + 1) / tiles);
        add(segment, kv_head, kv_head * group + h, heads, begin, end - begin);
      }
    }
  }

  void add(const Segment& segment, int32_t kv_head, int32_t head, int32_t heads, int32_t begin,
           int32_t queries) {
    const KvShape& s = pool_.shape;
    Item item{};
    item.q_row = segment.q_begin + begin;
    item.head = head;
    item.sequence = segment.block_table_row;
    item.kv_head = kv_head;
    AttentionTile& t = item.tile;
    t.q = args_.q.f32(item.q_row) + static_cast<int64_t>(head) * s.dim_k;
    t.q_stride = args_.q.row_stride;
    t.queries = queries;
    t.heads = heads;
    t.dk = s.dim_k;
    t.dv = s.dim_v;
    t.scale_log2 = args_.scale * std::numbers::log2e_v<float>;
    t.first_limit = segment.causal ? segment.kv_len - segment.q_len + begin + 1 : segment.kv_len;
    t.limit_step = segment.causal ? 1 : 0;
    t.pages = args_.block_table.entries.host +
              static_cast<int64_t>(segment.block_table_row) * args_.block_table.max_pages;
    t.k = pool_.k_head(args_.layer, 0, kv_head);
    t.v = pool_.v_head(args_.layer, 0, kv_head);
    t.page_bytes = pool_.page_bytes;
    t.k_panel_bytes = pool_.k_panel_bytes;
    t.v_column_bytes = pool_.v_column_bytes;
    t.page_size = s.page_size;
    t.page_panels = pool_.panels;

    const int64_t last = t.first_limit + static_cast<int64_t>(t.limit_step) * (queries - 1);
    item.area = heads * queries * (t.first_limit + last) / 2;
    const int64_t panels = (last + s.page_size - 1) / s.page_size * pool_.panels;
    item.chunks = static_cast<int32_t>((panels + kChunkPanels - 1) / kChunkPanels);
    items_.push_back(std::move(item));
  }

  const AttentionArgs& args_;
  const CpuKvPool& pool_;
  int32_t tile_rows_;  // queries times heads in a tile, at most
  std::vector<Item> items_;
};

PartialRows allocate_partial(Arena& arena, int64_t rows, int64_t columns) {
  rows = (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  const auto floats = [&](int64_t n) { return static_cast<float*>(arena.allocate(n * 4)); };
  return {floats(rows * columns), floats(rows), floats(rows)};
}

/// Whole items where there are plenty; where there are few (decode over a long context), single chunks. Which
/// one is taken changes no bit: an item reduces its chunks one by one and merges them in order in both.
std::vector<Piece> cut(std::vector<Item>& items, int threads, int64_t columns, Arena& arena) {
  constexpr int64_t kMaxPartialBytes = int64_t{32} << 20;
  const bool few = threads > 1 && static_cast<int64_t>(items.size()) < int64_t{4} * threads;
  int64_t partial_bytes = 0;
  std::vector<Piece> pieces;
  for (size_t i = 0; i < items.size(); ++i) {
    Item& item = items[i];
    const int64_t rows = item.tile.queries * item.tile.heads;
    const int64_t bytes = item.chunks * rows * (columns + 2) * 4;
    if (!few || item.chunks < 2 || partial_bytes + bytes > kMaxPartialBytes) {
      pieces.push_back({static_cast<int32_t>(i), -1});
      continue;
    }
    partial_bytes += bytes;
    for (int32_t c = 0; c < item.chunks; ++c) {
      item.parts.push_back(allocate_partial(arena, rows, columns));
      pieces.push_back({static_cast<int32_t>(i), c});
    }
  }
  return pieces;
}

}  // namespace

void cpu_attention(OpContext& ctx, const AttentionArgs& args, Isa isa) {
  const auto* pool = dynamic_cast<const CpuKvPool*>(args.pool);
  check(pool != nullptr, "attention: the KV pool belongs to the CPU");
  check_attention(args);
  const TileKernel& kernel = kernel_for(isa, pool->dtype, pool->shape.dim_k);
  const int32_t columns = (pool->shape.dim_v + kPanelKeys - 1) / kPanelKeys * kPanelKeys;

  Arena::Scope scope(ctx.arena);
  std::vector<Item> items = Planner(args, *pool, kernel, ctx.threads).items();
  const std::vector<Piece> pieces = cut(items, ctx.threads, columns, ctx.arena);
  const int threads =
      static_cast<int>(std::clamp<int64_t>(static_cast<int64_t>(pieces.size()), 1, std::max(ctx.threads, 1)));

  struct Space {
    void* scratch;
    PartialRows total, part;
  };
  std::vector<Space> spaces;
  for (int i = 0; i < threads; ++i) {
    spaces.push_back({ctx.arena.allocate(kernel.scratch_bytes(pool->shape.dim_k, pool->shape.dim_v)),
                      allocate_partial(ctx.arena, kernel.max_rows, columns),
                      allocate_partial(ctx.arena, kernel.max_rows, columns)});
  }

  const auto finish = [&](const Item& item, PartialRows total) {
    float* lse = args.lse_ln.data == nullptr ? nullptr : args.lse_ln.f32(item.q_row) + item.head;
    float* out = args.out.f32(item.q_row) + static_cast<int64_t>(item.head) * pool->shape.dim_v;
    kernel.finish(item.tile, total, out, args.out.row_stride, lse, args.lse_ln.row_stride);
  };

#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    const Space& space = spaces[static_cast<size_t>(omp_get_thread_num())];
#pragma omp for schedule(dynamic, 1)
    for (size_t i = 0; i < pieces.size(); ++i) {
      const Item& item = items[static_cast<size_t>(pieces[i].item)];
      kernel.pack_queries(item.tile, space.scratch);
      if (pieces[i].chunk >= 0) {
        kernel.reduce_chunk(item.tile, pieces[i].chunk, space.scratch,
                            item.parts[static_cast<size_t>(pieces[i].chunk)]);
        continue;
      }
      const int32_t rows = item.tile.queries * item.tile.heads;
      kernel.reduce_chunk(item.tile, 0, space.scratch, space.total);
      for (int32_t c = 1; c < item.chunks; ++c) {
        kernel.reduce_chunk(item.tile, c, space.scratch, space.part);
        kernel.merge(space.total, space.part, rows, columns);
      }
      finish(item, space.total);
    }
#pragma omp for schedule(dynamic, 1)
    for (size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      if (item.parts.empty()) continue;
      const int32_t rows = item.tile.queries * item.tile.heads;
      const PartialRows total = item.parts.front();
      for (size_t c = 1; c < item.parts.size(); ++c) kernel.merge(total, item.parts[c], rows, columns);
      finish(item, total);
    }
  }
}

}  // namespace longspan
