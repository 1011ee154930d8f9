# kernels.pxi - all kernels of one dtype, `real`, compiled once for each instruction set; see kernels.hpp.
from cpython.pycapsule cimport PyCapsule_New
from csoftmax.kernels.simd cimport *
from libc.math cimport INFINITY

cdef const real* tag = NULL      # tells templates the dtype where no operand does

include "gil.pxi"
include "softmax.pxi"
include "cross_entropy.pxi"
include "scores.pxi"
include "forms.pxi"
include "groups.pxi"
include "few_classes.pxi"
include "wide_columns.pxi"
include "sweeps.pxi"
include "long_rows.pxi"
include "product.pxi"
include "pieces.pxi"


cdef void add_losses(LongSum[longdouble]& total, const char* x, Py_ssize_t n) noexcept nogil:
    add_to_sum(total, <const real*> x, n)


cdef real one = 1
cdef Kernels all_kernels
all_kernels.size = sizeof(real)
all_kernels.one = &one
all_kernels.run = run
all_kernels.sum_weights = sum_weights[real]
all_kernels.add_to_sum = add_losses
all_kernels.bytes_of_rows = bytes_of_rows
all_kernels.take_step = take_step
all_kernels.multiply = multiply

table = PyCapsule_New(&all_kernels, "csoftmax.Kernels", NULL)
