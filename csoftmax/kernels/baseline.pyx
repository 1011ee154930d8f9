from csoftmax.kernels import baseline_float32 as of_float32, baseline_float64 as of_float64

include "functions.pxi"
