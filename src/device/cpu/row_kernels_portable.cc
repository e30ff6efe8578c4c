#include "device/cpu/row_kernels_impl.h"

namespace longspan {

const RowKernels kRowKernelsPortable = kThisRowKernels;

}  // namespace longspan
