#include "device/cpu/onednn_product.h"

#include <algorithm>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>

#include "device/cpu/packed_matrix.h"
#include "device/cpu/parallel.h"
#include "device/host_memory.h"

namespace longspan {
namespace {

using dnnl::memory;

constexpr int64_t kPanel = PackedMatrix::kPanel;
constexpr int64_t kMostColumns = 16384;  // beyond, the trial would take longer than it saves

/// One of the two multiplies: with and without adding.
struct Multiply {
  dnnl::matmul primitive;
  memory::desc scratchpad;
};

class Product final : public OneDnnProduct {
 public:
  Product(DType dtype, int64_t k, int64_t n)
      : dtype_(dtype),
        k_(k),
        n_(n),
        engine_(dnnl::engine::kind::cpu, 0),
        a_({kRows, k}, type(), memory::format_tag::ab),
        b_({k, n}, type(),
           dtype == DType::kBF16 ? memory::format_tag::BA16a64b2a : memory::format_tag::BA16a64b),
        c_({kRows, n}, memory::data_type::f32, memory::format_tag::ab) {}

  /// False where oneDNN has no packed multiply of this shape.
  bool prepare() {
    const TeamSize one(1);  // the calling threads share the rows among themselves
    for (const bool accumulate : {false, true}) {
      dnnl::primitive_attr attr;
      attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
      dnnl::post_ops add;
      add.append_sum();
      if (accumulate) attr.set_post_ops(add);
      const dnnl::matmul::primitive_desc pd({a_, b_, c_}, attr, engine_, /*allow_empty=*/true);
      if (!pd || !std::string_view(pd.impl_info_str()).starts_with("brg")) return false;
      multiplies_[accumulate] = {dnnl::matmul(pd), pd.scratchpad_desc()};
    }
    return true;
  }

  void multiply(const void* a, const void* b, float* c, bool accumulate, void* scratch) const override {
    const Multiply& m = multiplies_[accumulate];
    dnnl::stream stream(engine_);
    m.primitive.execute(stream, {{DNNL_ARG_SRC, memory(a_, engine_, const_cast<void*>(a))},
                                 {DNNL_ARG_WEIGHTS, memory(b_, engine_, const_cast<void*>(b))},
                                 {DNNL_ARG_DST, memory(c_, engine_, c)},
                                 {DNNL_ARG_SCRATCHPAD, memory(m.scratchpad, engine_, scratch)}});
    stream.wait();
  }

  int64_t scratch_bytes() const override {
    return static_cast<int64_t>(
        std::max(multiplies_[0].scratchpad.get_size(), multiplies_[1].scratchpad.get_size()));
  }

  /// Whether random numbers multiplied both ways give the same bits.
  bool equals(void (*kernel)(const GemmTile&)) const {
    const HostBuffer a(kRows * k_ * size_of(dtype_)), b(k_ * n_ * size_of(dtype_)), ours(kRows * n_ * 4),
        theirs(kRows * n_ * 4), scratch(scratch_bytes());
    fill(a, 1);
    fill(b, 2);
    std::memset(ours.data(), 0, static_cast<size_t>(ours.bytes()));
    std::memset(theirs.data(), 0, static_cast<size_t>(theirs.bytes()));
    for (const bool accumulate : {false, true}) {
      for (int64_t column = 0; column < n_; column += kPanel)
        kernel({.a = a.data(),
                .a_stride = k_,
                .b = b.data() + column * k_ * size_of(dtype_),
                .k = k_,
                .rows = kRows,
                .c = reinterpret_cast<float*>(ours.data()) + column,
                .c_stride = n_,
                .accumulate = accumulate});
      multiply(a.data(), b.data(), reinterpret_cast<float*>(theirs.data()), accumulate, scratch.data());
      if (std::memcmp(ours.data(), theirs.data(), static_cast<size_t>(ours.bytes())) != 0) return false;
    }
    return true;
  }

 private:
  memory::data_type type() const {
    return dtype_ == DType::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
  }

  void fill(const HostBuffer& buffer, uint32_t state) const {
    for (int64_t i = 0; i < buffer.bytes() / size_of(dtype_); ++i) {
      state = state * 1664525u + 1013904223u;
      const float value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
      if (dtype_ == DType::kBF16)
        reinterpret_cast<uint16_t*>(buffer.data())[i] = f32_to_bf16(value);
      else
        reinterpret_cast<float*>(buffer.data())[i] = value;
    }
  }

  const DType dtype_;
  const int64_t k_, n_;
  const dnnl::engine engine_;
  const memory::desc a_, b_, c_;
  Multiply multiplies_[2];  // [accumulate]
};

}  // namespace

std::shared_ptr<const OneDnnProduct> OneDnnProducts::get(DType dtype, int64_t k, int64_t n,
                                                         void (*kernel)(const GemmTile&)) {
  if (n % kPanel != 0 || n > kMostColumns) return nullptr;
  const std::lock_guard lock(mutex_);
  const auto [found, added] = products_.try_emplace({dtype, k, n});
  if (added) {
    auto product = std::make_shared<Product>(dtype, k, n);
    if (product->prepare() && product->equals(kernel)) found->second = std::move(product);
  }
  return found->second;
}

}  // namespace longspan
