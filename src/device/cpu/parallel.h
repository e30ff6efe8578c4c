#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

namespace longspan {

/// Calls f(thread, index) for every index in [0, count), `chunk` consecutive ones at a time, on up to
/// `threads` threads; the first exception is thrown again here.
template <class F>
void parallel_for(int threads, int64_t count, int64_t chunk, F&& f) {
  if (threads <= 1 || count <= chunk) {
    for (int64_t i = 0; i < count; ++i) f(0, i);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, chunk) num_threads(threads)
  for (int64_t i = 0; i < count; ++i) {
    try {
      f(omp_get_thread_num(), i);
    } catch (...) {
#pragma omp critical(longspan_parallel_for)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// The calling thread's OpenMP teams have `threads` threads while this lives; oneDNN has no other setting.
class TeamSize {
 public:
  explicit TeamSize(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~TeamSize() { omp_set_num_threads(before_); }
  TeamSize(const TeamSize&) = delete;
  TeamSize& operator=(const TeamSize&) = delete;

 private:
  int before_;
};

/// Rows that make one thread's turn worth its start, for work of `elements` a row.
inline int64_t rows_per_turn(int64_t elements) {
  constexpr int64_t kElements = 16384;
  return elements >= kElements ? 1 : (kElements + elements) / (elements + 1);
}

}  // namespace longspan
