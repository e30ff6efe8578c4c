#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "device/cpu/packed_matrix.h"
#include "device/cpu/row_kernels.h"

namespace longspan {

/// One thread's multiply of a tile of rows by a few panels of a PackedMatrix, through oneDNN. The work of an
/// op is cut into such tiles; what a row gets does not depend on the rows beside it or on the number of
/// threads. Primitives are made on first use and kept, one per tile shape. Thread-safe.
class TileGemm {
 public:
  static constexpr int64_t kMaxRows = 128;
  static constexpr int64_t kMaxPanels = 2;

  explicit TileGemm(Isa isa);
  ~TileGemm();
  TileGemm(const TileGemm&) = delete;
  TileGemm& operator=(const TileGemm&) = delete;

  /// The smallest row count that tiles are made for, >= rows; rows <= kMaxRows. Few counts, so that a step
  /// of a new length makes no new primitives.
  int64_t bucket_rows(int64_t rows) const;

  /// Per-thread memory that `multiply` needs, uninitialised, 64-byte aligned.
  static constexpr int64_t kScratchBytes = int64_t{1} << 20;

  struct Tile {
    const void* a = nullptr;  // [bucket_rows(rows), k_padded], f32 or bf16 as the weight's arithmetic asks
    int64_t a_stride = 0;     // elements
    int64_t rows = 0;         // <= kMaxRows
    int64_t panel = 0;        // first panel
    int64_t columns = 0;      // from the first panel's start, <= kMaxPanels * 64
    float* c = nullptr;       // [rows, columns]
    int64_t c_stride = 0;     // elements
    bool accumulate = false;
  };
  void multiply(const PackedMatrix& b, const Tile& tile, char* scratch);

 private:
  struct Shape;
  struct Primitive;
  const Primitive& primitive(const Shape& shape);
  const Primitive* find(const Shape& shape, size_t chain) const;
  void run(const Shape& shape, const void* a, const void* b, float* c, char* scratch);

  struct Onednn;
  std::unique_ptr<Onednn> onednn_;
  const RowKernels& rows_;
  bool blocked_;  // oneDNN takes the packed layout as it is; else panel by panel as plain matrices
  int64_t min_rows_;
  // Insert-only hash chains: looking up takes no lock.
  std::array<std::atomic<Primitive*>, 256> chains_{};
  std::mutex insert_;
};

}  // namespace longspan
