from csoftmax.kernels import avx2_float32 as of_float32, avx2_float64 as of_float64

include "functions.pxi"
