#include "model/transfer_probe.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <span>
#include <vector>

#include "model/travel.h"

namespace longspan {
namespace {

constexpr double kLongEnough = 0.02;  // seconds: above the noise of clocks and of waking up
constexpr int kRepeats = 3;
constexpr int32_t kRows = 64;  // queries
constexpr int64_t kMostKeys = 4096, kLeastBytes = 64 << 10;

/// What ranks measure with.
struct Probe {
  OpContext& ctx;
  Ops& ops;
  Communicator& comm;
  const std::function<double()>& seconds;

  /// Rank 0's, which all go on with: its f32 bits travel, through the device where ranks meet there.
  double agreed(double mine) const {
    const Arena::Scope scope(ctx.arena);
    const auto bits = std::bit_cast<int32_t>(static_cast<float>(mine));
    const IndexArray place = ops.upload(ctx, std::span(&bits, 1));
    auto* value = const_cast<int32_t*>(place.device);
    comm.broadcast(std::as_writable_bytes(std::span(value, 1)), 0, "probe");
    float result = 0;
    ops.download(ctx, {value, DType::kF32, 1, 1, 1}, std::span(&result, 1));
    return result;
  }
  /// The shortest time that `body` takes, until the device is done.
  template <class Body>
  double fastest(Body body) const {
    double best = 0;
    for (int i = 0; i < kRepeats; ++i) {
      comm.barrier("probe");
      ctx.wait();
      const double begin = seconds();
      body();
      ctx.wait();
      const double took = seconds() - begin;
      best = i == 0 ? took : std::min(best, took);
    }
    return std::max(agreed(best), 1e-9);
  }
};

double attention_flops(const Probe& probe, KvPool& scratch, int32_t heads_q) {
  auto& [ctx, ops, comm, seconds] = probe;
  const KvShape& s = scratch.shape;
  const Arena::Scope scope(ctx.arena);
  const Matrix zeros = ctx.arena.matrix(kRows, int64_t{heads_q} * s.dim_k);
  const Matrix q = ctx.arena.matrix(kRows, zeros.cols, ops.inner_dtype());
  const Matrix out = ctx.arena.matrix(kRows, int64_t{heads_q} * s.dim_v, q.dtype);
  ops.clear(ctx, zeros);
  ops.convert(ctx, zeros, q);
  const int32_t most = probe_pages(s);
  std::vector<int32_t> pages(most);
  std::iota(pages.begin(), pages.end(), 1);
  const IndexArray table = ops.upload(ctx, pages);
  for (int32_t count = 1;; count = std::min(most, 4 * count)) {
    const std::vector<Segment> segments = {{0, kRows, 0, count * s.page_size, /*causal=*/false}};
    const double took = probe.fastest([&] {
      ops.attention(ctx, {.q = q,
                          .pool = &scratch,
                          .layer = 0,
                          .segments = segments,
                          .block_table = {table, 1, most},
                          .heads_q = heads_q,
                          .scale = 1,
                          .out = out});
    });
    if (count == most || took >= kLongEnough)
      return 2.0 * heads_q * (s.dim_k + s.dim_v) * kRows * count * s.page_size / took;
  }
}

}  // namespace

int32_t probe_pages(const KvShape& scratch) {
  return static_cast<int32_t>(
      std::min<int64_t>(scratch.pages - 1, std::max<int64_t>(1, kMostKeys / scratch.page_size)));
}

TransferFigures measure_transfer(OpContext& ctx, Ops& ops, KvPool& scratch, int32_t heads_q,
                                 Communicator& comm, bool overlaps, const std::function<double()>& seconds) {
  const Probe probe{ctx, ops, comm, seconds};
  TransferFigures figures{.attention_flops = attention_flops(probe, scratch, heads_q),
                          .bytes_per_second = 0,
                          .latency_s = 0,
                          .overlaps = overlaps};
  const Arena::Scope scope(ctx.arena);
  const auto message = [&] {
    const Matrix m = ctx.arena.matrix(1, kMostProbeBytes / int64_t{sizeof(float)});
    ops.clear(ctx, m);
    return bytes_of(m);
  };
  const std::span<std::byte> send = message(), recv = message();
  const auto shift = [&](int64_t bytes) {
    const auto size = static_cast<size_t>(bytes);
    return probe.fastest([&] {
      comm.start_shift(send.first(size), recv.first(size), "probe");
      comm.wait();
    });
  };
  figures.latency_s = shift(0);
  for (int64_t bytes = kLeastBytes;; bytes *= 4) {
    const double took = shift(bytes);
    if (took < kLongEnough && bytes < kMostProbeBytes) continue;
    figures.bytes_per_second = static_cast<double>(bytes) / std::max(took - figures.latency_s, took / 2);
    return figures;
  }
}

}  // namespace longspan
