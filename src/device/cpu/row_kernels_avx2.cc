#include "device/cpu/row_kernels_impl.h"

namespace longspan {

const RowKernels kRowKernelsAvx2 = kThisRowKernels;

}  // namespace longspan
