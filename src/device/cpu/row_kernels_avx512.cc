#include "device/cpu/row_kernels_impl.h"

namespace longspan {

const RowKernels kRowKernelsAvx512 = kThisRowKernels;

}  // namespace longspan
