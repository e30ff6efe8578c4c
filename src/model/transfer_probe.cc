#include "model/transfer_probe.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace longspan {
namespace {

constexpr double kLongEnough = 0.02;  // seconds: above the noise of clocks and of waking up
constexpr int kRepeats = 3;
constexpr int32_t kRows = 64;  // queries
constexpr int64_t kMostKeys = 4096, kLeastBytes = 64 << 10;

template <class Body>
double fastest(Communicator& comm, const std::function<double()>& seconds, Body body) {
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    comm.barrier("probe");
    const double begin = seconds();
    body();
    const double took = seconds() - begin;
    best = i == 0 ? took : std::min(best, took);
  }
  comm.broadcast(std::as_writable_bytes(std::span(&best, 1)), 0, "probe");  // all go on alike
  return std::max(best, 1e-9);
}

double attention_flops(OpContext& ctx, Ops& ops, KvPool& scratch, int32_t heads_q, Communicator& comm,
                       const std::function<double()>& seconds) {
  const KvShape& s = scratch.shape;
  const Arena::Scope scope(ctx.arena);
  const Matrix q = ctx.arena.matrix(kRows, int64_t{heads_q} * s.dim_k);
  const Matrix out = ctx.arena.matrix(kRows, int64_t{heads_q} * s.dim_v);
  ops.clear(ctx, q);
  const int32_t most = probe_pages(s);
  std::vector<int32_t> pages(most);
  std::iota(pages.begin(), pages.end(), 1);
  const IndexArray table = ops.upload(ctx, pages);
  for (int32_t count = 1;; count = std::min(most, 4 * count)) {
    const std::vector<Segment> segments = {{0, kRows, 0, count * s.page_size, /*causal=*/false}};
    const double took = fastest(comm, seconds, [&] {
      ops.attention(ctx, {.q = q,
                          .pool = &scratch,
                          .layer = 0,
                          .segments = segments,
                          .block_table = {table, 1, most},
                          .heads_q = heads_q,
                          .scale = 1,
                          .out = out});
      ctx.wait();
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
  TransferFigures figures{.attention_flops = attention_flops(ctx, ops, scratch, heads_q, comm, seconds),
                          .bytes_per_second = 0,
                          .latency_s = 0,
                          .overlaps = overlaps};
  std::vector<std::byte> send(kMostProbeBytes), recv(kMostProbeBytes);
  const auto shift = [&](int64_t bytes) {
    return fastest(comm, seconds, [&] {
      comm.start_shift(std::span(send).first(bytes), std::span(recv).first(bytes), "probe");
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
