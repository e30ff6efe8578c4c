#include "device/cpu/onednn_product.h"

#include "device/cpu/cpu_features.h"
#include "device/op_test.h"

namespace longspan {
namespace {

struct Kernel {
  DType dtype;
  Isa isa;  // the least that multiplies it
  void (*multiply)(const GemmTile&);
};

std::vector<Kernel> kernels() {
  std::vector<Kernel> result;
  if (has_isa(Isa::kAvx512)) result.push_back({DType::kF32, Isa::kAvx512, gemm_kernels(Isa::kAvx512).f32});
  if (has_isa(Isa::kAvx512Bf16))
    result.push_back({DType::kBF16, Isa::kAvx512Bf16, gemm_kernels(Isa::kAvx512Bf16).bf16});
  return result;
}

/// Without AMX, whose multiplies sum in another order, every shape must pass the trial: else big products
/// would quietly lose their library.
TEST(OneDnnProduct, HasTheRowKernelsBitsAtEveryInnerSize) {
  if (kernels().empty() || has_isa(Isa::kAmx)) GTEST_SKIP() << "needs AVX-512 and no AMX";
  OneDnnProducts products;
  for (const Kernel& kernel : kernels())
    for (const int64_t k : {32, 96, 512, 544, 768, 1024, 1056, 2048, 2080, 4096, 6144})
      for (const int64_t n : {64, 320, 2048})
        EXPECT_NE(products.get(kernel.dtype, k, n, kernel.multiply), nullptr)
            << to_string(kernel.dtype) << " " << n << " x " << k;
}

void adds_blocks_the_other_way(const GemmTile& tile) {
  GemmTile last = tile, first = tile;
  const int64_t cut = tile.k / 2;
  const auto at = [](const void* p, int64_t elements) { return static_cast<const float*>(p) + elements; };
  last.a = at(tile.a, cut);
  last.b = at(tile.b, cut * 64);
  last.k = first.k = cut;
  gemm_kernels(Isa::kPortable).f32(last);
  first.accumulate = true;
  gemm_kernels(Isa::kPortable).f32(first);
}

TEST(OneDnnProduct, IsDeclinedWhereItsBitsDiffer) {
  OneDnnProducts products;
  EXPECT_EQ(products.get(DType::kF32, 2048, 128, adds_blocks_the_other_way), nullptr);
}

TEST(OneDnnProduct, IsDeclinedForPartOfAPanel) {
  OneDnnProducts products;
  EXPECT_EQ(products.get(DType::kF32, 64, 100, gemm_kernels(Isa::kPortable).f32), nullptr);
}

TEST(OneDnnProduct, IsSharedByWeightsOfOneShape) {
  if (kernels().empty() || has_isa(Isa::kAmx)) GTEST_SKIP() << "needs AVX-512 and no AMX";
  OneDnnProducts products;
  const Kernel kernel = kernels()[0];
  EXPECT_EQ(products.get(kernel.dtype, 64, 128, kernel.multiply),
            products.get(kernel.dtype, 64, 128, kernel.multiply));
}

}  // namespace
}  // namespace longspan
