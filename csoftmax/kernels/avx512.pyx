from csoftmax.kernels import avx512_float32 as of_float32, avx512_float64 as of_float64

include "functions.pxi"
