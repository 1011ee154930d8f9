# functions.pxi - what Python calls, for all dtypes: gufuncs, and functions of NumPy arrays as they are.
#
# The kernels are modules of their own; see kernels.hpp. The one that includes this names float32 and float64.
from cpython.pycapsule cimport PyCapsule_GetPointer
from csoftmax.kernels.simd cimport *

from csoftmax.kernels import longdouble as of_longdouble

include "gil.pxi"
include "ufuncs.pxi"
include "direct.pxi"
include "direct_cross_entropy.pxi"
include "direct_scores.pxi"
include "calls.pxi"
include "linear.pxi"
