#include "device/cpu/limits.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "device/cpu/parallel.h"
#include "device/host_memory.h"

namespace longspan {
namespace {

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Median seconds of `repeats` calls.
template <class F>
double median_seconds(int repeats, clockid_t clock, F&& f) {
  std::vector<double> samples;
  for (int i = 0; i < repeats; ++i) {
    const double start = seconds(clock);
    f();
    samples.push_back(seconds(clock) - start);
  }
  std::nth_element(samples.begin(), samples.begin() + repeats / 2, samples.end());
  return samples[static_cast<size_t>(repeats / 2)];
}

using Type = dnnl::memory::data_type;

double gemm_rate(Type a_type, Type b_type, Type c_type, int64_t n, int threads) {
  const TeamSize team(threads);
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::memory::dims dims = {n, n};
  using Tag = dnnl::memory::format_tag;
  const dnnl::memory::desc a(dims, a_type, Tag::ab), any(dims, b_type, Tag::any), c(dims, c_type, Tag::ab);
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, any, c), engine);
  dnnl::matmul matmul(pd);
  dnnl::memory src(a, engine), weights(pd.weights_desc(), engine), dst(c, engine);
  std::memset(src.get_data_handle(), 0, a.get_size());
  std::memset(weights.get_data_handle(), 0, pd.weights_desc().get_size());
  const auto multiply = [&] {
    matmul.execute(stream, {{DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, dst}});
    stream.wait();
  };
  return 2.0 * static_cast<double>(n * n * n) /
         median_seconds(9, threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, multiply);
}

template <class RateOf>
double best_rate(RateOf rate_of) {
  double best = 0;
  for (const int64_t n : {512, 1024, 2048}) best = std::max(best, rate_of(n));
  return best;
}

}  // namespace

double cpu_gemm_flops_per_s(DType dtype, int64_t n, int threads) {
  const Type type = dtype == DType::kBF16 ? Type::bf16 : Type::f32;
  return gemm_rate(type, type, Type::f32, n, threads);
}

double cpu_peak_flops_per_s(DType dtype, int threads) {
  return best_rate([&](int64_t n) { return cpu_gemm_flops_per_s(dtype, n, threads); });
}

double cpu_peak_int8_ops_per_s(int threads) {
  return best_rate([&](int64_t n) { return gemm_rate(Type::u8, Type::s8, Type::s32, n, threads); });
}

double cpu_read_bytes_per_s(int threads) {
  constexpr int64_t kLeast = int64_t{256} << 20;
  const int64_t wanted = std::max<int64_t>(kLeast, 4 * int64_t{sysconf(_SC_LEVEL3_CACHE_SIZE)});
  const HostBuffer buffer(std::min(wanted, std::max<int64_t>(host_memory_bytes() / 8, 1 << 20)));
  const auto* words = reinterpret_cast<const uint64_t*>(buffer.data());
  const int64_t count = buffer.bytes() / 8;
#pragma omp parallel num_threads(threads)
  {
    const int64_t t = omp_get_thread_num(), n = omp_get_num_threads();
    const int64_t begin = count * t / n, end = count * (t + 1) / n;
    std::memset(buffer.data() + begin * 8, 1, static_cast<size_t>((end - begin) * 8));
  }
  constexpr int64_t kAheadWords = 512;  // hardware prefetch stops at each 4 KiB
  volatile uint64_t sink = 0;
  const double once = median_seconds(5, CLOCK_MONOTONIC, [&] {
    uint64_t sum = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : sum)
    for (int64_t line = 0; line < count / 8; ++line) {
      const uint64_t* w = words + 8 * line;
      __builtin_prefetch(w + kAheadWords);
      sum += (w[0] + w[1]) + (w[2] + w[3]) + (w[4] + w[5]) + (w[6] + w[7]);
    }
    sink = sink + sum;
  });
  return static_cast<double>(count * 8) / once;
}

HardwareLimits cpu_limits(DType compute, bool int8, int threads) {
  HardwareLimits limits{.flops_per_s = cpu_peak_flops_per_s(DType::kF32, threads),
                        .bytes_per_s = cpu_read_bytes_per_s(threads)};
  if (compute == DType::kBF16)
    limits.flops_per_s = std::max(limits.flops_per_s, cpu_peak_flops_per_s(DType::kBF16, threads));
  if (int8) limits.flops_per_s = std::max(limits.flops_per_s, cpu_peak_int8_ops_per_s(threads));
  return limits;
}

}  // namespace longspan
