#pragma once

#include <time.h>

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "tensor/dtype.h"

namespace longspan {

inline double thread_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// GFLOP/s of an N x N x N oneDNN multiply of `dtype` with f32 sums, median of nine.
inline double gemm_gflops(DType dtype, int64_t n) {
  const auto type = dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const dnnl::memory::dims dims = {n, n};
  using Tag = dnnl::memory::format_tag;
  const dnnl::memory::desc a(dims, type, Tag::ab), any(dims, type, Tag::any);
  const dnnl::memory::desc c(dims, dnnl::memory::data_type::f32, Tag::ab);
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, any, c), engine);
  dnnl::matmul matmul(pd);
  dnnl::memory src(a, engine), weights(pd.weights_desc(), engine), dst(c, engine);
  std::memset(src.get_data_handle(), 0, a.get_size());
  std::memset(weights.get_data_handle(), 0, pd.weights_desc().get_size());
  std::vector<double> gflops;
  for (int i = 0; i < 9; ++i) {
    const double start = thread_cpu_seconds();
    matmul.execute(stream, {{DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, dst}});
    stream.wait();
    gflops.push_back(2.0 * static_cast<double>(n * n * n) / (thread_cpu_seconds() - start) / 1e9);
  }
  std::sort(gflops.begin(), gflops.end());
  return gflops[gflops.size() / 2];
}

/// The best that oneDNN does at `dtype` on the calling thread alone (set OpenMP to one thread), in its CPU
/// time: the yardstick of the kernel benchmarks. A multiply of 512 stays in L2, one of 2048 does not: where
/// they differ, memory is the limit. ONEDNN_MAX_CPU_ISA limits the instruction set, e.g. to AVX512_CORE_BF16
/// on a machine with AMX.
inline double measured_peak_gflops(DType dtype) {
  double best = 0;
  for (int64_t n : {512, 1024, 2048}) best = std::max(best, gemm_gflops(dtype, n));
  return best;
}

}  // namespace longspan
