#include "device/cpu/attention_avx512_vec.h"
#include "device/cpu/attention_f32.h"

namespace longspan {
namespace {

template <bool kBf16Pages>
using Kernel = TileBody<F32Arch<Vec16, 6, 4, kBf16Pages>>;

}  // namespace

const IsaKernels kAvx512Kernels = {Kernel<false>::kernel(), Kernel<true>::kernel()};

}  // namespace longspan
