# kernels.pxi - all kernels, compiled once for each instruction set.
from csoftmax.kernels.simd cimport *

ctypedef fused real:
    float
    double
    long double

include "softmax.pxi"
include "cross_entropy.pxi"
include "scores.pxi"
include "groups.pxi"
include "few_classes.pxi"
include "sweeps.pxi"
include "long_rows.pxi"
include "ufuncs.pxi"
include "direct.pxi"
include "direct_cross_entropy.pxi"
include "direct_scores.pxi"
include "calls.pxi"
include "product.pxi"
include "pieces.pxi"
